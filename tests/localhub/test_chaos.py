"""A Hub that misbehaves as asked, and what the official client and metta-hub make of it.

The retry table is hub-http-api.md section 0.
"""

import io
import sys
import time
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from pathlib import Path
from tempfile import TemporaryDirectory

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

import metta_hub.localhub.chaos
from localhub.helpers import FILES, misbehaving
from metta_hub.errors import UsageError
from metta_hub.localhub import Chaos, Server


def get(server: Server, path: str, method: str = "GET"):
    connection = HTTPConnection(server.endpoint.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {server.token}"})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


# What a specification may say


def test_a_specification_is_read():
    chaos = Chaos.parse("503=0.5,cut=1@/resolve/,slow=0.25:1.5@/commit/,quota=3/60,burst=0,seed=7")
    assert [(fault.kind, fault.rate, fault.part, fault.seconds) for fault in chaos.faults] == [
        ("503", 0.5, "", 0), ("cut", 1, "/resolve/", 0), ("slow", 0.25, "/commit/", 1.5),
    ]  # fmt: skip
    assert (chaos.quota, chaos.window, chaos.burst, chaos.seed) == (3, 60, 0, 7)
    assert Chaos.parse("") == Chaos()


@pytest.mark.parametrize(
    "word",
    ["x", "x=1", "503", "503=", "503=2", "503=-0.1", "503=nan", "200=1", "600=1", "50=1", "cut=1:2", "slow=1",
     "slow=1:", "slow=1:-1", "slow=1:inf", "quota=5", "quota=x/1", "quota=5/", "burst=-1", "seed=x", "seed=", "=1",
     "429=0.1;cut=1"],
)  # fmt: skip
def test_a_word_that_says_nothing_is_named(word: str):
    with pytest.raises(UsageError) as caught:
        Chaos.parse(f"503=0.1,{word}")
    assert f"'{word}'" in str(caught.value)


def test_help_and_module_list_the_same_words(run):
    shown = run(sys.executable, "-m", "metta_hub", "serve", "--help").stdout
    listed = [line.split()[0] for line in metta_hub.localhub.chaos.__doc__.splitlines() if line.startswith("    ")]
    assert len(listed) == 8
    for word in listed:
        assert f"  {word} " in shown
    assert (
        "metta-hub serve --help" in run(sys.executable, "-m", "metta_hub", "serve", "--chaos", "cut=9", ok=False).stderr
    )


# What each word does


def test_a_status_is_answered_and_nothing_done(root: Path):
    with misbehaving(root, "500=1@/discussions,burst=0") as (server, api):
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_discussion("org/nav", title="x")
        assert caught.value.response.status_code == 500
        assert caught.value.response.headers["X-Request-Id"]
        assert caught.value.response.json()["error"]
        assert api.model_info("org/nav").id == "org/nav"
    with Server(root) as server:
        assert list(HfApi(endpoint=server.endpoint, token=server.token).get_repo_discussions("org/nav")) == []


def test_cut_does_nothing(root: Path):
    with misbehaving(root, "cut=1@/branch/,burst=0") as (server, _api):
        with pytest.raises(RemoteDisconnected):
            get(server, "/api/models/org/nav/branch/new", "POST")
        assert server.requests[-1].status == 0
        assert get(server, "/api/models/org/nav/revision/new")[0] == 404


def test_lost_does_what_was_asked(root: Path):
    with misbehaving(root, "lost=1@/branch/,burst=0") as (server, _api):
        with pytest.raises(RemoteDisconnected):
            get(server, "/api/models/org/nav/branch/new", "POST")
        assert get(server, "/api/models/org/nav/revision/new")[0] == 200


def test_torn_answers_half(root: Path):
    with misbehaving(root, "torn=1@/resolve/,burst=0") as (server, _api):
        with pytest.raises(IncompleteRead) as caught:
            get(server, "/org/nav/resolve/main/model.bin")
        assert caught.value.partial == FILES["model.bin"][:100_000]
        assert get(server, "/org/nav/resolve/main/model.bin", "HEAD")[0] == 200  # no body to tear


def test_slow_answers_late(root: Path):
    with misbehaving(root, "slow=1:0.3@/whoami") as (_server, api):
        started = time.monotonic()
        assert api.whoami()["name"] == "me"
        assert time.monotonic() - started >= 0.3


def test_quota_counts_and_says_so_in_every_answer(root: Path):
    with misbehaving(root, "quota=3/60") as (server, _api):
        answers = [get(server, "/api/whoami-v2") for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
    left = [headers["ratelimit"].split(";")[:2] for _, headers, _ in answers]
    assert left == [['"api"', f"r={n}"] for n in (2, 1, 0, 0, 0)]
    for _, headers, _ in answers:
        assert headers["ratelimit-policy"] == '"fixed window";"api";q=3;w=60'
    assert 1 <= int(answers[-1][1]["Retry-After"]) <= 60
    assert "Retry-After" not in answers[0][1]


def test_burst_is_the_most_faults_in_a_row(root: Path):
    with misbehaving(root, "503=1,burst=2") as (server, _api):
        statuses = [get(server, "/api/whoami-v2")[0] for _ in range(6)]
        other = get(server, "/api/models")[0]
    assert statuses == [503, 503, 200, 503, 503, 200]
    assert other == 503  # each address for itself


def test_the_same_seed_gives_the_same_faults_whatever_else_goes_on(root: Path):
    def statuses(seed: int, *, between: int = 0) -> list[int]:
        with misbehaving(root, f"503=0.5,seed={seed},burst=0") as (server, _api):
            found = []
            for _ in range(20):
                found.append(get(server, "/api/whoami-v2")[0])
                for _ in range(between):
                    get(server, "/api/models")
        return found

    assert statuses(1) == statuses(1, between=2)
    assert {200, 503} == set(statuses(1))
    assert statuses(1) != statuses(2)


# The retry table of the official client


def commit(api: HfApi) -> None:
    operations = [CommitOperationAdd("new.txt", b"n"), CommitOperationAdd("new.bin", io.BytesIO(b"new"))]
    api.create_commit("org/nav", operations, commit_message="x")


def download(api: HfApi) -> None:
    with TemporaryDirectory() as empty:
        api.hf_hub_download("org/nav", "notes.txt", cache_dir=empty)


#: Lists that come in pages are tried again by newer clients only.
PAGES = 6 if huggingface_hub.__version__ >= "2" else 1
#: call, what its address contains, its method, tries with 503, tries with 429
RETRIES = {
    "whoami": (lambda api: api.whoami(), "/whoami-v2", "GET", 1, 1),
    "create_repo": (lambda api: api.create_repo("org/new"), "/repos/create", "POST", 1, 1),
    "delete_repo": (lambda api: api.delete_repo("org/nav"), "/repos/delete", "DELETE", 1, 1),
    "move_repo": (lambda api: api.move_repo("org/nav", "org/moved"), "/repos/move", "POST", 1, 1),
    "settings": (lambda api: api.update_repo_settings("org/nav", gated="auto"), "/settings", "PUT", 1, 1),
    "model_info": (lambda api: api.model_info("org/nav"), "/models/org/nav", "GET", 1, 1),
    "refs": (lambda api: api.list_repo_refs("org/nav"), "/refs", "GET", 1, 1),
    "paths_info": (lambda api: api.get_paths_info("org/nav", ["notes.txt"]), "/paths-info/", "POST", 1, 1),
    "tag": (lambda api: api.create_tag("org/nav", tag="v1"), "/tag/", "POST", 1, 1),
    "branch": (lambda api: api.create_branch("org/nav", branch="b"), "/branch/", "POST", 1, 1),
    "discussions": (lambda api: list(api.get_repo_discussions("org/nav")), "/discussions", "GET", 1, 1),
    "list_models": (lambda api: list(api.list_models()), "/api/models", "GET", PAGES, PAGES),
    "tree": (lambda api: api.list_repo_files("org/nav"), "/tree/", "GET", PAGES, PAGES),
    "commits": (lambda api: api.list_repo_commits("org/nav"), "/commits/", "GET", PAGES, PAGES),
    "preupload": (commit, "/preupload/", "POST", 6, 6),
    "lfs_batch": (commit, "/objects/batch", "POST", 6, 6),
    "lfs_put": (commit, "/put", "PUT", 6, 6),
    "lfs_verify": (commit, "/verify", "POST", 6, 6),
    "commit": (commit, "/commit/", "POST", 1, 1),
    "resolve_head": (download, "/resolve/", "HEAD", 7, 7),  # once, then once more with patience
    "resolve_get": (download, "/resolve/", "GET", 1, 6),
}


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("name", RETRIES)
def test_the_official_client_tries_as_often_as_the_table_says(root: Path, waits: list[float], name: str, status: int):
    call, part, method, *tries = RETRIES[name]
    expected = tries[status == 429]
    faults = f"{status}=1@{part},burst=0"
    if name == "resolve_get":
        faults = f"{status}=1@GET /org/nav/resolve/,burst=0"
    with misbehaving(root, faults) as (server, api):
        asked = lambda: [entry for entry in server.requests if part in entry.path and entry.method == method]  # noqa: E731
        with pytest.raises((HfHubHTTPError, OSError, RuntimeError, ValueError)):
            call(api)
        assert len(asked()) == expected
    if expected >= 6:
        assert waits == ([2] * 5 if status == 429 else [1, 2, 4, 8, 8])
