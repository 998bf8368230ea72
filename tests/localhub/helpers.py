"""What the tests of the embedded Hub share."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from metta_hub.localhub import Chaos, Server

#: What the repo `org/nav` of the fixture `root` holds.
FILES = {"notes.txt": b"hello", "sub/data.json": b"{}", "model.bin": os.urandom(200_000)}

HEADER = {"key": "header", "value": {"summary": "raw"}}


def ndjson(*lines: dict[str, Any]) -> bytes:
    """The body of a commit."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def file_line(path: str, content: bytes = b"x") -> dict[str, Any]:
    """The line of a commit's body that adds a regular file."""
    value = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
    return {"key": "file", "value": value}


def unfinished(root: Path) -> list[Path]:
    """Files that a store keeps only while something is being done."""
    found = [path for path in (root / "tmp").rglob("*") if path.is_file()]
    return found + [p for p in (root / "repos").rglob("*") if p.name.startswith("tmp") or p.suffix == ".lock"]


def objects(git: Path) -> set[str]:
    """Every object and pack in a git repository on disk, needed or not."""
    return {path.name for path in (git / "objects").rglob("*") if path.is_file()}


def fsck(git: Path) -> list[str]:
    """What git says against a repository, objects that nothing needs included."""
    done = subprocess.run(
        ["git", "fsck", "--full", "--strict", "--unreachable", "--no-progress"],
        cwd=git,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    return [line for line in said if not line.startswith("notice:")] + (["failed"] if done.returncode else [])


@contextmanager
def misbehaving(root: Path, spec: str) -> Iterator[tuple[Server, HfApi]]:
    """A Hub that does what `spec` says, and a client of it."""
    with Server(root, chaos=Chaos.parse(spec)) as server:
        yield server, HfApi(endpoint=server.endpoint, token=server.token)
