"""What every test shares: a Hub on loopback, made before huggingface_hub is imported, and real checkpoints.

huggingface_hub reads its environment when it is imported, so the Hub is started when this file is: before any other
conftest. The product runs as it would for a user who exported these variables.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import settings

from metta_hub.localhub import Server
from support import DATA

# Twenty-five times as many examples in properties/, whose tests are slow then.
settings.register_profile("soak", max_examples=2_500, deadline=None)

_SESSION: dict[str, object] = {}


def _start():
    folder = Path(tempfile.mkdtemp(prefix="metta-hub-tests-"))
    server = Server(folder / "hub", user="tester").start()
    _SESSION.update(folder=folder, server=server)
    for name in [name for name in os.environ if name.startswith(("HF_", "METTA_HUB_", "HUGGING"))]:
        del os.environ[name]
    os.environ.update(
        HF_ENDPOINT=server.endpoint,
        HF_TOKEN=server.token,
        HF_HOME=str(folder / "home"),
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        NO_COLOR="1",
        COLUMNS="100",
    )


_start()


def pytest_unconfigure(config):
    _SESSION["server"].stop()
    shutil.rmtree(_SESSION["folder"], ignore_errors=True)


@pytest.fixture
def hub():
    """The running Hub; its requests are counted from the start of the test."""
    server = _SESSION["server"]
    server.requests.clear()
    return server


@pytest.fixture
def api(hub):
    """The official client."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def upload(api):
    """Commit a file as the official client does. An open file, as this Hub has no xet."""
    return lambda repo_id, path, content: api.upload_file(
        path_or_fileobj=io.BytesIO(content), path_in_repo=path, repo_id=repo_id
    )


@pytest.fixture
def repo_id():
    """The name of a repo that nobody has used yet."""
    return f"org/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def run(tmp_path):
    """A copy of the real run's pairs, to publish from and to spoil."""
    return Path(shutil.copytree(DATA / "run", tmp_path / "run"))


@pytest.fixture
def cli(tmp_path):
    """Run the command line in a process of its own, in an empty folder."""
    here = tmp_path / "here"
    here.mkdir()

    def call(*arguments, env=None, cwd=here, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "metta_hub", *map(str, arguments)],
            cwd=cwd,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A system's temporary folder of this test's own, for this process and those that it starts."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
