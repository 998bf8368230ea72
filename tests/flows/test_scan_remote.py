"""scan of an object store: the same as on a disk, from a few bytes of each object; S3 is moto's server, on loopback."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from threading import Lock, Thread
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import fsspec
import pytest

import metta_hub
import trees
from metta_hub.errors import NotFoundError
from support import DATA, SHARED

BUCKET = "runs"


@pytest.fixture
def memory(tmp_path):
    """The same tree on a disk and in a store."""
    folder = trees.one_of_each(tmp_path / "runs")
    store = fsspec.filesystem("memory")
    store.put(f"{folder}/", "/runs", recursive=True)
    yield folder, "memory://runs"
    store.rm("/runs", recursive=True)


def found_in(place):
    """What a survey finds, by the path in the place."""
    found = metta_hub.scan(place)
    files = {file.path.removeprefix(str(place)): (file.format, file.bytes, file.epoch, file.reason) for file in found}
    return files, found.totals


def test_a_store_is_surveyed_as_a_disk_is(memory):
    folder, url = memory
    here, there = found_in(folder), found_in(url)
    assert here[0] == there[0]
    assert (here[1].files, here[1].folders) == (there[1].files, there[1].folders)
    assert here[1].bytes + here[1].duplicates.bytes == there[1].bytes  # a store has no hard links
    assert there[1].read.bytes <= here[1].read.bytes + 4096


@pytest.mark.parametrize("name", ["run/model_000140.pt", "run/model_000140.json"])
def test_one_object(memory, name):
    (found,) = metta_hub.scan(f"{memory[1]}/{name}")
    assert (found.path, found.format, found.files) == ("memory://runs/run/model_000140.pt", "pair", 2)


def test_an_address_of_a_file_on_this_disk_is_a_path(memory):
    assert list(metta_hub.scan(f"file://{memory[0]}")) == list(metta_hub.scan(memory[0]))


def test_nothing_there_and_the_nearest_name(memory):
    with pytest.raises(NotFoundError) as refused:
        metta_hub.scan("memory://runs/bundle")
    assert refused.value.hint == "did you mean memory://runs/bundles?"


@pytest.mark.parametrize(
    ("url", "package", "install"),
    [("s3://bucket/x", "s3fs", "'metta-hub[remote]'"), ("gs://bucket/x", "gcsfs", "gcsfs")],
)
def test_a_store_whose_package_is_not_installed(url, package, install):
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['metta-hub', 'scan', {url!r}]\n"
        "from metta_hub.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Error: Reading {url[:5]} needs {package}, which is not installed.",
        f"Hint: pip install {install}",
    ]


# --- S3 -----------------------------------------------------------------------------------------------------------


class Wire:
    """A wire to a server that counts the bytes it sends."""

    def __init__(self, port):
        self.sent, self._port, self._lock = 0, port, Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source, target, is_answer):
        with contextlib.suppress(OSError), source, target:
            while content := source.recv(65536):
                with self._lock:
                    self.sent += len(content) if is_answer else 0
                target.sendall(content)

    def close(self):
        self._listening.close()


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    """moto's server, and a bucket with checkpoints of some megabytes; its port."""
    pytest.importorskip("moto", reason="scripts/lowest installs no server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    deadline = time.monotonic() + 60
    while not put(port, "", b""):
        assert process.poll() is None, log.name
        assert time.monotonic() < deadline
        time.sleep(0.1)
    large = trees.saved(trees.weights(1_000_000))
    bundle = {"policy_spec.json": json.dumps(trees.SPEC), "weights.pt": os.urandom(4 << 20)}
    for name, content in {
        "train/run/model_000140.pt": large,
        "train/run/model_000140.json": (DATA / "run" / "model_000140.json").read_bytes(),
        "train/run/trainer_state.pt": trees.saved({"optimizer": {"state": trees.weights(1_000_000)}}),
        "train/old/model_0007.pt": trees.saved({"model_state_dict": trees.weights(1_000_000), "epoch": 7}),
        "train/nav:v12.zip": trees.zipped(**bundle),
        "train/a.safetensors": trees.safetensors(1_000_000),
        "train/cut.pt": large[:-200],
        "train/": b"",
        "train/log.txt": bytes(1 << 20),
    }.items():
        assert put(port, f"/{name}", content)
    if SHARED.is_dir():
        for path in SHARED.rglob("*"):
            if path.is_file() and path.stat().st_size > 1_000_000:
                assert put(port, f"/train/shared/{path.relative_to(SHARED)}", path.read_bytes())
    yield port
    process.terminate()
    process.wait()
    log.close()


def put(port, path, content):
    url = f"http://127.0.0.1:{port}/{BUCKET}{quote(path)}"
    request = Request(url, content, {"Content-Type": "application/octet-stream"}, method="PUT")
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status == 200
    except (URLError, ConnectionError):
        return False


@pytest.fixture
def wire(moto):
    made = Wire(moto)
    yield made
    made.close()


@pytest.fixture
def at(wire):
    """The environment of somebody whose store is at the other end of the wire: nothing else is asked for anything."""
    return {
        "AWS_ENDPOINT_URL": wire.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def test_of_a_bucket_less_than_one_percent_is_read(cli, at, wire):
    value = json.loads(cli("scan", f"s3://{BUCKET}/train", "--json", env=at).stdout)
    found = {file["path"]: (file["format"], file["epoch"], file["publish"]) for file in value["files"]}
    expected = {
        "a.safetensors": ("safetensors", None, True),
        "cut.pt": ("damaged", None, False),
        "nav:v12.zip": ("bundle", 12, True),
        "old/model_0007.pt": ("wrapped state dict", 7, True),
        "run/model_000140.pt": ("pair", 140, True),
        "run/trainer_state.pt": ("trainer state", None, False),
    }
    assert expected == {
        path.removeprefix("s3://runs/train/"): file for path, file in found.items() if "/shared/" not in path
    }
    totals = value["totals"]
    assert totals["bytes"] > 20_000_000
    assert totals["read"]["bytes"] < totals["bytes"] / 100
    assert totals["read"]["bytes"] < wire.sent < totals["bytes"] / 100  # with headers and listings
    assert totals["read"]["requests"] < 4 * totals["files"]


def test_a_bucket_that_is_not_there(cli, at):
    done = cli("scan", "s3://nobody/runs", env=at, code=1)
    assert done.stderr.startswith("Error: There is nothing at s3://nobody/runs.\nHint: check the address")


def test_a_store_that_does_not_answer(cli, at):
    done = cli("scan", f"s3://{BUCKET}/train", env=at | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, code=1)
    assert "cannot be listed: Could not connect" in done.stderr


def test_without_credentials_nobody_is_asked_for_any(cli, at):
    env = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
    done = cli("scan", f"s3://{BUCKET}/train", env=at | env, code=1)
    assert "Unable to locate credentials" in done.stderr
