"""llama.cpp's own server on a GGUF file, with the settings that the gateway gives it: FILE THREADS SLOTS CONTEXT."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from llmops.serving.llamacpp import LlamaCppEngine

if __name__ == "__main__":
    file, threads, slots, context = sys.argv[1:5]
    engine = LlamaCppEngine(Path(file), int(threads), int(context), int(slots))
    host = engine._open()
    print(host.url, host.secret, flush=True)
    while True:
        time.sleep(1)
