"""What the tests of the embedded Hub share."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from metta_hub.localhub import Chaos, Server

#: A server in a process of its own: it prints endpoint and token, and goes on until it is told to stop.
SERVE = """
import sys
from pathlib import Path
from metta_hub.localhub import Server
server = Server(Path(sys.argv[1])).start()
print(server.endpoint, server.token, flush=True)
server.serve_forever()
print("bye", flush=True)
"""
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
    found = [Path(place, name) for place, _, names in os.walk(root / "tmp") for name in names]
    paths = (Path(place, name) for place, _, names in os.walk(root / "repos") for name in names)
    return found + [path for path in paths if path.name.startswith(("tmp", "upload-")) or path.suffix == ".lock"]


def left_unfinished(root: Path) -> list[Path]:
    """The same, once a server had the time to notice that a client is gone."""
    for _ in range(500):
        if not unfinished(root):
            break
        time.sleep(0.01)
    return unfinished(root)


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
def running(code: str, root: Path, environment: dict[str, str], *options: str) -> Iterator[subprocess.Popen[str]]:
    """Python code in a process of its own, with a store's folder as its argument; it is killed if it still runs."""
    command = [sys.executable, *options, "-c", code, str(root)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def misbehaving(root: Path, spec: str) -> Iterator[tuple[Server, HfApi]]:
    """A Hub that does what `spec` says, and a client of it."""
    with Server(root, chaos=Chaos.parse(spec)) as server:
        yield server, HfApi(endpoint=server.endpoint, token=server.token)


class Serve:
    """`metta-hub serve` as a process, at the same port after every start."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.port = "0"
        self._environment = environment

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metta_hub", "serve", "--root", str(self.root), "--port", self.port, "--json"],
            env=self._environment, cwd=self.root.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        text = ""
        while not text.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            text += line
        facts = json.loads(text)
        self.endpoint, self.token = facts["endpoint"], facts["token"]
        self.port = self.endpoint.rpartition(":")[2]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=30)[1]
