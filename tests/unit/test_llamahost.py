"""llama.cpp beside the process: another program stands in for it, which answers through the socket that it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from llmops.core.errors import LlmopsError
from llmops.serving import llamahost
from llmops.serving.llamahost import SERVER, Beside, Load, about, fastest, native_server, start

STAND_IN = f"""#!{sys.executable}
import http.server, json, os, socketserver, sys

told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if told["--model"].endswith("broken.gguf"):
    sys.exit("error loading model")


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(200, {{"status": "ok"}})

    def do_POST(self):
        known = self.headers["Authorization"] == "Bearer " + os.environ["LLAMA_API_KEY"]
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say(200 if known else 401, {{"told": sys.argv[1:], "pid": os.getpid()}})

    def say(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass

    def address_string(self):
        return ""


socketserver.UnixStreamServer(told["--host"], Answers).serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "llama-server"
    path.write_text(STAND_IN)
    path.chmod(0o700)
    return path


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the processor says what it can, not there yet; only the shipped llama.cpp is."""
    monkeypatch.delenv(SERVER, raising=False)
    monkeypatch.setattr(llamahost, "PACKAGE", "no_such_package")
    monkeypatch.setattr(llamahost, "PROCESSOR", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


def load(folder: Path, name: str = "model.gguf") -> Load:
    (folder / name).touch()
    return Load(folder / name, threads=1, context_tokens=512, slots=3)


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.02)


def test_the_program_gets_the_settings_and_only_the_key_opens_its_door(server: Path, tmp_path: Path) -> None:
    host = Beside(server, load(tmp_path))
    with host.client() as client:
        answer = client.post("/completion", json={}).json()
        stranger = client.post("/completion", json={}, headers={"Authorization": "Bearer guessed"})
    assert stranger.status_code == 401
    told = answer["told"]
    assert told[told.index("--ctx-size") + 1] == str(3 * 512)
    assert host.secret not in " ".join(told)
    assert host.socket is not None
    assert Path(host.socket).parent.stat().st_mode & 0o077 == 0
    host.close()
    wait_gone(answer["pid"])
    assert not Path(host.socket).parent.exists()


def test_a_model_that_it_cannot_load_is_an_error_with_its_reason(server: Path, tmp_path: Path) -> None:
    with pytest.raises(LlmopsError, match=r"cannot load broken.gguf: error loading model"):
        Beside(server, load(tmp_path, "broken.gguf"))


def test_it_stops_when_the_process_that_started_it_is_killed(server: Path, tmp_path: Path) -> None:
    load(tmp_path)
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom llmops.serving.llamahost import Beside, Load\n"
        "host = Beside(Path(sys.argv[1]), Load(Path(sys.argv[2]), 1, 512, 1))\n"
        "with host.client() as client:\n    print(client.post('/completion', json={}).json()['pid'], flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(server), str(tmp_path / "model.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(parent.pid, signal.SIGKILL)
    wait_gone(pid)


def test_the_one_named_in_the_environment_is_taken(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native_server({SERVER: str(server)}) == server
    monkeypatch.setenv(SERVER, str(server))
    host = start(load(tmp_path))
    assert isinstance(host, Beside)
    host.close()


def test_a_name_that_is_no_program_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(LlmopsError, match="is no program"):
        native_server({SERVER: str(tmp_path / "nowhere")})


def test_a_missing_model_or_adapter_is_found_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(LlmopsError, match="no model file"):
        start(Load(tmp_path / "none.gguf", 1, 512, 1))
    model = load(tmp_path)
    with pytest.raises(LlmopsError, match="no adapter file"):
        start(Load(model.gguf, 1, 512, 1, (tmp_path / "none.gguf",)))


def test_a_processor_with_wider_instructions_is_told_of_the_faster_build(
    server: Path, processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert about() == "llama.cpp as it is shipped, for any processor"
    processor.write_text("flags : avx2 avx512f\n")
    assert "llmops[native]" in about()
    monkeypatch.setenv(SERVER, str(server))
    assert str(server) in about() and "in q8_0 it answers 8 at once fastest" in about()


def test_bf16_is_fastest_only_where_it_was_built_for_a_processor_that_multiplies_it(
    server: Path, processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor.write_text("flags : avx512f avx512_bf16\n")
    assert fastest() == "q8_0"  # as it is shipped
    monkeypatch.setenv(SERVER, str(server))
    assert fastest() == "bf16" and "in bf16 it answers 8" in about()
    processor.write_text("flags : avx512f\n")
    assert fastest() == "q8_0"
