"""What the app starts in place of `llmops run`: it says that it works, and works until it is told to stop."""

from __future__ import annotations

import sys
import time

print("working on", *sys.argv[1:], flush=True)
for number in range(300):
    print(f"\rprepare {number}", end="", flush=True)
    time.sleep(0.2)
