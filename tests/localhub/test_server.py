"""Starting, stopping, restarting; many at once."""

import io
import json
import multiprocessing
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from localhub.helpers import SERVE, running
from metta_hub.errors import ConflictError, NotFoundError, UsageError
from metta_hub.localhub import LocalHub, Server


def serving_threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("metta-hub-serve")


def test_it_listens_when_start_returns_and_not_after_stop(tmp_path: Path):
    server = Server(tmp_path / "hub")
    threads = serving_threads()
    for _ in range(3):
        server.start()
        api = HfApi(endpoint=server.endpoint, token=server.token)
        assert api.whoami()["name"] == "me"
        server.stop()
        with pytest.raises(Exception, match="refused"):
            api.whoami()
    server.stop()
    assert serving_threads() == threads
    assert server.endpoint.startswith("http://127.0.0.1:")


def test_stop_right_after_start(tmp_path: Path):
    Server(tmp_path).start().stop()


def test_a_restart_loses_nothing(tmp_path: Path):
    with Server(tmp_path / "hub", user="anna") as server:
        token, other = server.token, server.hub.add_user("bob")
        api = HfApi(endpoint=server.endpoint, token=token)
        api.create_repo("anna/nav", private=True)
        operations = [CommitOperationAdd("a.txt", b"1"), CommitOperationAdd("m.bin", io.BytesIO(b"weights"))]
        api.create_commit("anna/nav", operations, commit_message="x")
        api.create_commit("anna/nav", [CommitOperationAdd("b", b"2")], commit_message="y", create_pr=True)
        before = api.model_info("anna/nav", files_metadata=True)
    with Server(tmp_path / "hub") as server:
        assert (server.user, server.token) == ("anna", token)
        api = HfApi(endpoint=server.endpoint, token=token)
        assert api.model_info("anna/nav", files_metadata=True) == before
        assert Path(api.hf_hub_download("anna/nav", "m.bin", cache_dir=tmp_path / "c")).read_bytes() == b"weights"
        assert api.get_discussion_details("anna/nav", 1).title == "y"
        assert HfApi(endpoint=server.endpoint, token=other).whoami()["name"] == "bob"


def test_a_port_in_use_is_said(server: Server, tmp_path: Path):
    port = int(server.endpoint.rpartition(":")[2])
    with pytest.raises(ConflictError, match=f"Cannot listen on 127.0.0.1:{port}"):
        Server(tmp_path, port=port).start()


def test_users_and_tokens(tmp_path: Path):
    hub = LocalHub(tmp_path / "hub", user="anna")
    assert LocalHub(tmp_path / "hub").user == "anna"
    with pytest.raises(ConflictError, match="belongs to 'anna'"):
        LocalHub(tmp_path / "hub", user="bob")
    assert hub.add_user("Anna") == hub.token  # known already, in any case
    assert hub.add_user("bob") == LocalHub(tmp_path / "hub").add_user("Bob") != hub.token
    assert hub.accounts.users == ["anna", "bob"]
    with pytest.raises(UsageError):
        hub.add_user("a/b")
    with pytest.raises(NotFoundError):
        hub.add_token("nobody")
    token = hub.add_token("anna", role="read")
    assert hub.authenticate(token).role == "read"
    assert hub.token != token


def test_the_request_log_counts_bytes(api: HfApi, server: Server, repo: str, tmp_path: Path):
    server.requests.clear()
    api.upload_file(path_or_fileobj=io.BytesIO(b"w" * 5000), path_in_repo="m.bin", repo_id=repo)
    api.hf_hub_download(repo, "m.bin", cache_dir=tmp_path)
    puts = [(entry.status, entry.received) for entry in server.requests if entry.method == "PUT"]
    gets = [(e.method, e.status, e.sent) for e in server.requests if "/resolve/" in e.path]
    assert puts == [(200, 5000)]
    assert gets == [("HEAD", 200, 0), ("GET", 200, 5000)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_forever_returns_on_signals(environment, tmp_path: Path, number: int):
    with running(SERVE, tmp_path / "hub", environment, "-W", "error") as process:
        endpoint, token = process.stdout.readline().split()
        assert HfApi(endpoint=endpoint, token=token).whoami()["name"] == "me"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "bye\n", "")


def commit_until_landed(api: HfApi, repo: str, name: str) -> int:
    """Commit three files on a pinned head; return how often the head had moved."""
    refused = 0
    while refused < 100:
        operations = [CommitOperationAdd(f"{name}/{part}.txt", name.encode()) for part in "abc"]
        operations.append(CommitOperationAdd(f"{name}/m.bin", io.BytesIO(name.encode())))
        head = api.model_info(repo).sha
        try:
            api.create_commit(repo, operations, commit_message=name, parent_commit=head)
        except HfHubHTTPError as error:
            if error.response.status_code != 412:
                raise
            refused += 1
        else:
            return refused
    raise AssertionError(f"{name} never landed")


def test_concurrent_commits_land_whole_or_are_refused(api: HfApi, repo: str):
    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(lambda n: commit_until_landed(api, repo, f"w{n}"), range(8)))
    commits = api.list_repo_commits(repo)
    assert sorted(item.title for item in commits) == sorted(["initial commit", *(f"w{n}" for n in range(8))])
    assert set(api.list_repo_files(repo)) == {
        ".gitattributes", *(f"w{n}/{name}" for n in range(8) for name in ("a.txt", "b.txt", "c.txt", "m.bin")),
    }  # fmt: skip
    assert sum(refused) >= 0


def test_concurrent_commits_without_a_parent_all_land(api: HfApi, repo: str):
    def commit(number: int) -> None:
        api.create_commit(repo, [CommitOperationAdd(f"f{number}", b"same content")], commit_message=str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(16)))
    assert len(api.list_repo_files(repo)) == 17
    assert len(api.list_repo_commits(repo)) == 17


def serve_and_commit(root: str, names: list[str]) -> None:
    constants.HF_HUB_DISABLE_XET = True
    with Server(Path(root)) as server:
        api = HfApi(endpoint=server.endpoint, token=server.token)
        for name in names:
            commit_until_landed(api, "org/shared", name)


def test_several_processes_serve_one_folder(tmp_path: Path):
    hub = LocalHub(tmp_path / "hub")
    hub.create_repo(hub.authenticate(hub.token), "org", "shared", private=False)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=serve_and_commit, args=(str(hub.root), [f"p{number}-{k}" for k in range(3)]))
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
        worker.close()
    with Server(hub.root) as server:
        api = HfApi(endpoint=server.endpoint, token=server.token)
        assert len(api.list_repo_commits("org/shared")) == 13
        assert len(api.list_repo_files("org/shared")) == 1 + 12 * 4


def test_settings_on_disk_are_plain_json(server: Server, repo: str):
    settings = json.loads((server.root / "repos" / repo / "repo.json").read_text())
    assert settings["id"] == repo
    assert set(settings) == {"id", "key", "private", "gated", "created"}


def test_stop_does_not_wait_for_a_client_that_sleeps(tmp_path: Path):
    server = Server(tmp_path / "hub").start()
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = "POST /api/validate-yaml HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        while not server.requests or not server.requests[-1].received:
            time.sleep(0.01)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 10
