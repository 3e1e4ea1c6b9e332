"""Run as a program by the proof of hostile artefacts: `python -m llmops.serving.prove_artefacts FOLDER`.

Prints one line of JSON: how many artefacts there were and were refused, whether code ran or a socket was opened, and
whether the same watch sees a careless loader.
"""

from __future__ import annotations

import json
import runpy
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.lm.base import check_folder, load_tokenizer
from llmops.serving.llamacpp import LlamaCppEngine

CODE = "import pathlib; pathlib.Path({!r}).write_text('ran')"
# A pickle, written by hand: it calls `os.system`.
PICKLE = "cos\nsystem\n(S'touch {}'\ntR."
WATCHED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "os.system", "subprocess.Popen", "pickle.find_class")


def artefacts(folder: Path, mark: Path) -> Iterator[tuple[Path, Callable[[Path], Any]]]:
    """(an artefact, what would load it)."""
    code, pickled = CODE.format(str(mark)), PICKLE.format(mark)
    names = ["modeling_x.py", "a/b.py", "x.pkl", "x.pickle", "pytorch_model.bin", "m.pt", "m.pth", "m.ckpt", "m.so"]
    for place in ("", "deep/", "deep/er/"):
        for name in (*names, "m.dll", "n.ipynb"):
            yield _file(folder, f"{place}{name}", (code if name.endswith(".py") else pickled).encode()), check_folder
    keys = (
        "auto_map",
        "custom_pipelines",
        "custom_a",
        "attn_implementation",
        "_attn_implementation",
        "_implementation_",
    )
    for key in keys:
        for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
            yield _file(folder, name, json.dumps({key: {"AutoModel": "evil--evil.Model"}}).encode()), check_folder
    for name in ("config.json", "adapter_config.json"):
        yield _file(folder, name, b'{"a": '), check_folder
    yield from ((_file(folder, "model.gguf", raw) / "model.gguf", _engine) for raw in _ggufs(pickled.encode()))
    yield _file(folder, "tokenizer.json", pickled.encode()), load_tokenizer


def _file(folder: Path, name: str, raw: bytes) -> Path:
    """A fresh folder that holds this one file."""
    home = folder / str(sum(1 for _ in folder.iterdir()))
    (home / name).parent.mkdir(parents=True)
    (home / name).write_bytes(raw)
    return home


def _ggufs(pickled: bytes) -> Iterator[bytes]:
    """Files that are no GGUF, or none that can be: cut off, of another version, with counts beyond the file."""
    yield from (
        b"",
        pickled,
        b"PK\x03\x04" + b"\0" * 60,
        b"\x80\x04\x95",
        b"#!/bin/sh\n",
        b"GGUF",
        b"GGML" + b"\0" * 60,
    )
    for version, tensors, pairs in ((1, 0, 0), (3, 2**62, 1), (3, 1, 2**62), (99, 1, 1), (3, 0, 0)):
        yield b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)
    yield b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**60) + b"key"
    yield b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 3) + b"key" + struct.pack("<IIQ", 9, 8, 2**50)


def _engine(path: Path) -> None:
    LlamaCppEngine(path, 1, 64, 1).close()


def main(folder: Path) -> None:
    """Try every artefact."""
    folder.mkdir(parents=True)
    mark = folder.parent / "mark"
    seen: list[str] = []
    sys.addaudithook(lambda event, _: seen.append(event) if event in WATCHED else None)
    through: list[str] = []
    every = list(artefacts(folder, mark))
    for path, load in every:
        try:
            load(path)
        except (LlmopsError, ValueError, OSError):
            continue
        through.append(str(path.relative_to(folder)))
    told = {
        "of": len(every),
        "refused": len(every) - len(through),
        "through": ", ".join(through[:3]),
        "executed": int(mark.exists()) + sum(not event.startswith("socket") for event in seen),
        "sockets": sum(event.startswith("socket") for event in seen),
    }
    runpy.run_path(str(every[0][0] / "modeling_x.py"))
    print(json.dumps({**told, "careless": int(mark.exists())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
