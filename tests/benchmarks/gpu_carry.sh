#!/usr/bin/env bash
# Here, where a package index can be reached: fetch into the folder $1 (.whl) the wheels that a GPU machine without a
# network lacks, for its Python 3.12 and its own torch. Versions are those of constraints.txt, where it names them.
set -euo pipefail
out=${1:-.whl}
python=${PYTHON:-.venv/bin/python}
wanted='annotated-types|bitsandbytes|cleanlab|datasets|dill|google-re2|multiprocess|orjson|peft|phonenumbers|py3langid|python-stdnum|pydantic|pydantic_core|sqlalchemy|termcolor|typing-inspection'
platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
    platforms+=(--platform "${tag}_x86_64")
done
for name in $(grep -iE "^($wanted)==" constraints.txt) trl==1.16.0; do
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        "${platforms[@]}" --dest "$out" "$name"
done
du -sh "$out"
