#!/usr/bin/env bash
# There, on the GPU machine: install what .whl carries beside the machine's own torch, then test and measure. About three
# minutes. What it prints is also left in the folder $OUT, where there is one.
set -uo pipefail
site=$(mktemp -d)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl || exit 1
export PYTHONPATH="$site:$PWD" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
log=${OUT:-$site}/gpu.log
{
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
    python3 -c 'import torch, transformers, peft; print(torch.__version__, transformers.__version__, peft.__version__)'
    timeout 100 python3 -m pytest -q -p no:cacheprovider --timeout 90 tests/unit/test_gpu.py
    timeout 150 python3 -m tests.benchmarks.gpu
} 2>&1 | tee "$log"
