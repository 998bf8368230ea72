"""A running Hub for the whole test session, and a fresh repo in it for each test."""

import http.client
import io
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.utils import _http

from localhub.helpers import FILES
from metta_hub.localhub import Server

HERE = Path(__file__).parent
_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _quiet_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def api(server: Server) -> HfApi:
    return HfApi(endpoint=server.endpoint, token=server.token)


@pytest.fixture
def anonymous(server: Server) -> HfApi:
    return HfApi(endpoint=server.endpoint, token=False)


@pytest.fixture(scope="session")
def other_user(server: Server) -> HfApi:
    """A user who may write to `other/…` only."""
    return HfApi(endpoint=server.endpoint, token=server.hub.add_user("other"))


@pytest.fixture(scope="session")
def reader(server: Server) -> HfApi:
    """The first user, with a token that may only read."""
    return HfApi(endpoint=server.endpoint, token=server.hub.add_token("me", role="read"))


@pytest.fixture
def repo(api: HfApi) -> str:
    """The id of a new public repo."""
    repo_id = f"org/nav{next(_NUMBERS)}"
    api.create_repo(repo_id)
    return repo_id


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with the repo `org/nav`, made by a Hub that runs no longer."""
    with Server(tmp_path / "hub") as made:
        api = HfApi(endpoint=made.endpoint, token=made.token)
        api.create_repo("org/nav")
        operations = [CommitOperationAdd(path, io.BytesIO(data)) for path, data in FILES.items()]
        api.create_commit("org/nav", operations, commit_message="fill")
    return tmp_path / "hub"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the official client would have waited before each retry; it goes on at once."""
    waited: list[float] = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=waited.append, time=time.time))
    return waited


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Answer]


@pytest.fixture
def ask(server: Server) -> Ask:
    """Send a raw request: `ask("GET", "/path", body=…, token=…, headers=…)`."""

    def send(
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = server.token,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if token:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        path = path.removeprefix(server.endpoint)
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    return send


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    """For subprocesses: the official client reads its settings when it is imported."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR")}
    return {
        **kept,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(HERE.parent.parent),
        "HF_ENDPOINT": server.endpoint,
        "HF_TOKEN": server.token,
        "HF_HOME": str(tmp_path / "hf-home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "*",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "tester",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "tester",
        "GIT_COMMITTER_EMAIL": "t@example.org",
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run a command in `tmp_path`; `ok=False` when it is meant to fail."""

    def call(*command: str, ok: bool = True, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done

    return call


@pytest.fixture
def python(run: Run) -> Run:
    """Run Python code in a process of its own."""
    return lambda code, **options: run(sys.executable, "-c", code, **options)
