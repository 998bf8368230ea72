"""What the official client and metta-hub make of a Hub on a bad day: they get through, or say why not."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http

from localhub.committer import BROKEN
from localhub.helpers import fsck, left_unfinished, misbehaving
from metta_hub.localhub import Server
from support import DATA

DAY = "429=0.15,503=0.15,500=0.05,cut=0.1,lost=0.1,torn=0.1,slow=0.1:0.05,burst=2"


def until_done(call: Callable[[], object], tries: int = 30) -> None:
    """What a user does with a call that the client tries once: try again."""
    for _ in range(tries):
        try:
            call()
        except (HfHubHTTPError, OSError, RuntimeError, HTTPException, BROKEN):
            continue
        return
    raise AssertionError("it never got through")


@pytest.mark.parametrize("seed", range(4))
def test_the_official_client_gets_through_and_every_commit_is_whole(tmp_path: Path, waits: list[float], seed: int):
    with misbehaving(tmp_path / "hub", f"{DAY},seed={seed}") as (server, api):
        until_done(lambda: api.create_repo("org/nav", exist_ok=True))
        for number in range(5):
            files = {f"{number}/{name}": f"{number} {name}".encode() * 1000 for name in ("a.txt", "b.json", "w.bin")}
            operations = lambda: [CommitOperationAdd(p, io.BytesIO(data)) for p, data in files.items()]  # noqa: E731, B023
            until_done(lambda: api.create_commit("org/nav", operations(), commit_message=f"commit {number}"))  # noqa: B023
        until_done(lambda: api.snapshot_download("org/nav", cache_dir=tmp_path / "cache"))
        statuses = [entry.status for entry in server.requests]
    assert statuses.count(0) > 0  # cut or lost
    assert statuses.count(503) > 0
    assert waits
    with Server(tmp_path / "hub") as server:
        api = HfApi(endpoint=server.endpoint, token=server.token)
        titles = [item.title for item in api.list_repo_commits("org/nav")]
        assert titles == [*(f"commit {n}" for n in (4, 3, 2, 1, 0)), "initial commit"]  # none twice, none by halves
        assert len(api.list_repo_files("org/nav")) == 16
        (snapshot,) = (tmp_path / "cache").glob("models--org--nav/snapshots/*")
        for number in range(5):
            assert (snapshot / f"{number}/w.bin").read_bytes() == f"{number} w.bin".encode() * 1000
    assert fsck(tmp_path / "hub/repos/org/nav/git") == []
    assert left_unfinished(tmp_path / "hub") == []


def test_a_torn_download_is_resumed_where_it_broke_off(root: Path, waits: list[float], tmp_path: Path):
    block = 10 * 1024 * 1024  # what the client writes at once: of what it did not write, nothing is kept
    data = os.urandom(1024) * (5 * block // 2 // 1024)
    with Server(root) as server:
        HfApi(endpoint=server.endpoint, token=server.token).upload_file(
            path_or_fileobj=io.BytesIO(data), path_in_repo="large.bin", repo_id="org/nav"
        )
    with misbehaving(root, "torn=1@GET /org/nav/resolve/,burst=1") as (server, api):
        local = api.hf_hub_download("org/nav", "large.bin", cache_dir=tmp_path / "cache")
        sent = [entry.sent for entry in server.requests if entry.method == "GET" and "/resolve/" in entry.path]
    assert Path(local).read_bytes() == data
    assert sent == [len(data) // 2, len(data) - block]


def test_the_official_client_waits_for_a_quota(root: Path, tmp_path: Path):
    with misbehaving(root, "quota=3/1") as (server, api):
        for number in range(3):
            api.hf_hub_download("org/nav", "notes.txt", cache_dir=tmp_path / str(number))
        assert 429 in [entry.status for entry in server.requests]


def test_a_commit_whose_answer_was_lost_is_there_once(root: Path, waits: list[float]):
    """Pinned to its parent, too: what the client of `upload_folder` sends again is no stranger's commit."""
    with misbehaving(root, "lost=1@/commit/,burst=1") as (_server, api):
        head = api.model_info("org/nav").sha
        body = b'{"key":"header","value":{"summary":"x","parentCommit":"%s"}}\n' % head.encode()
        body += b'{"key":"file","value":{"path":"a","content":"x"}}'
        headers = {"authorization": f"Bearer {api.token}", "content-type": "application/x-ndjson"}
        url = f"{api.endpoint}/api/models/org/nav/commit/main"
        answer = _http.http_backoff("POST", url, content=body, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["commitOid"] == api.model_info("org/nav").sha
        assert len(api.list_repo_commits("org/nav")) == 3
    assert waits == [1]


def run_metta_hub(server: Server, home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR")}
    environment = kept | {
        "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": server.endpoint, "HF_TOKEN": server.token,
        "HF_HUB_DISABLE_TELEMETRY": "1", "NO_COLOR": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "metta_hub", *map(str, words)],
        env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def until_exit_0(server: Server, home: Path, *words: object) -> int:
    """Run metta-hub until it gets through; every failure is an error of its own tree, said in one sentence."""
    for tries in range(12):
        done = run_metta_hub(server, home, *words)
        assert "Traceback" not in done.stderr
        if done.returncode == 0:
            return tries
        assert done.returncode == 1
        assert "Error: " in done.stderr
        assert "Unexpected" not in done.stderr, done.stderr
    raise AssertionError("it never got through")


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_metta_hub_gets_through_or_says_why_not(tmp_path: Path, seed: int):
    source = DATA / "run" / "model_000140.pt"
    spec = f"429=0.02,503=0.02,500=0.02,cut=0.02,lost=0.02,torn=0.02,seed={seed}"
    with misbehaving(tmp_path / "hub", spec) as (server, _api):
        failed = until_exit_0(server, tmp_path, "push", source, "org/nav")
        failed += until_exit_0(server, tmp_path, "pull", "org/nav", tmp_path / "out")
        assert failed or {0, 500, 503, 429} & {entry.status for entry in server.requests}
    assert (tmp_path / "out" / source.name).read_bytes() == source.read_bytes()
    with Server(tmp_path / "hub") as server:
        assert run_metta_hub(server, tmp_path, "verify", "org/nav").returncode == 0
        again = json.loads(run_metta_hub(server, tmp_path, "push", source, "org/nav", "--json").stdout)
        assert again["changed"] is False
        api = HfApi(endpoint=server.endpoint, token=server.token)
        assert len(api.list_repo_commits("org/nav")) == 2
    assert fsck(tmp_path / "hub/repos/org/nav/git") == []
