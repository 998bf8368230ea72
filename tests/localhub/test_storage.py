"""What lies on disk: nothing by halves, and nothing that nobody needs."""

import gc
import hashlib
import http.client
import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from localhub.helpers import HEADER, SERVE, file_line, fsck, left_unfinished, ndjson, objects, running, unfinished
from metta_hub.localhub import LocalHub, Server
from metta_hub.localhub.scratch import Scratch


def git_folder(server: Server, repo: str) -> Path:
    return server.root / "repos" / repo / "git"


def new_repo(root: Path, name: str = "nav") -> LocalHub:
    hub = LocalHub(root)
    hub.create_repo(hub.authenticate(hub.token), "org", name, private=False)
    return hub


def wait_for(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_what_a_killed_server_had_begun_is_removed_at_the_next_start(environment, tmp_path: Path):
    root, data = tmp_path / "hub", os.urandom(3_000_000)
    with running(SERVE, root, environment) as process:
        endpoint, token = process.stdout.readline().split()
        HfApi(endpoint=endpoint, token=token).create_repo("org/nav")
        body = {"operation": "upload", "objects": [{"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}]}
        connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=10)
        connection.request(
            "POST", "/org/nav.git/info/lfs/objects/batch", json.dumps(body), {"Authorization": f"Bearer {token}"}
        )
        link = json.loads(connection.getresponse().read())["objects"][0]["actions"]["upload"]["href"]
        connection.putrequest("PUT", link.removeprefix(endpoint))
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data[:2_000_000])
        wait_for(lambda: [path for path in unfinished(root) if path.stat().st_size])
        process.kill()
        process.wait()
        connection.close()
    assert unfinished(root)
    hub = LocalHub(root)
    assert unfinished(root) == []
    assert list((root / "tmp").iterdir()) == [hub.scratch.folder]


def test_what_the_living_have_begun_is_left_alone(tmp_path: Path):
    first = LocalHub(tmp_path)
    with first.scratch.file() as (file, path):
        file.write(b"half")
        second = LocalHub(tmp_path)
        assert path.exists()
        assert second.scratch.folder != first.scratch.folder
    assert unfinished(tmp_path) == []


def test_a_server_that_ends_takes_its_folder_along(tmp_path: Path):
    code = f"from pathlib import Path; from metta_hub.localhub import LocalHub; LocalHub(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert list((tmp_path / "tmp").iterdir()) == []
    LocalHub(tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_uploads_in_parts_are_kept_as_long_as_their_links_are_good(tmp_path: Path):
    hub = new_repo(tmp_path)
    old, young = (tmp_path / "repos/org/nav/lfs" / f"upload-{letter * 32}" for letter in "ab")
    for path in (old, young):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    os.utime(old, (time.time() - hub.limits.link_seconds - 1,) * 2)
    LocalHub(tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


def test_lock_files_of_a_crashed_process_do_not_block(api: HfApi, server: Server, repo: str):
    git = git_folder(server, repo)
    for name in ("refs/heads/main.lock", "packed-refs.lock", "HEAD.lock"):
        (git / name).write_bytes(b"")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id=repo)
    api.create_branch(repo, branch="b")
    api.delete_branch(repo, branch="b")
    assert "a" in api.list_repo_files(repo)
    assert left_unfinished(server.root) == []


def test_a_refused_commit_leaves_nothing_behind(ask, api: HfApi, server: Server, repo: str):
    git = git_folder(server, repo)
    before = objects(git)
    stale = {"key": "header", "value": {"summary": "x", "parentCommit": "0" * 40}}
    missing = {"key": "lfsFile", "value": {"path": "m.bin", "algo": "sha256", "oid": "0" * 64}}
    nothing_there = {"key": "deletedFile", "value": {"path": "nope"}}
    for lines, status in (
        ((stale, file_line("a", b"new")), 412),
        ((HEADER, file_line("a", b"new"), missing), 422),
        ((HEADER, file_line("a", b"new"), nothing_there), 404),
        ((HEADER, file_line("a", b"new"), file_line("a/b", b"new")), 422),
    ):
        assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(*lines)).status == status
    assert objects(git) == before
    assert fsck(git) == []
    assert left_unfinished(server.root) == []


def test_every_object_is_needed_after_commits_merges_tags_and_squashes(ask, api: HfApi, server: Server, repo: str):
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"a/{number}", repo_id=repo)
    api.create_tag(repo, tag="v1", tag_message="x")
    pull = api.create_commit(repo, [CommitOperationAdd("z", b"z")], commit_message="x", create_pr=True)
    api.merge_pull_request(repo, pull.pr_num)
    api.upload_file(path_or_fileobj=b"0", path_in_repo="a/0", repo_id=repo)  # unchanged
    ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line("a/0", b"0")))  # the same
    api.create_branch(repo, branch="b")
    api.delete_folder("a", repo)
    assert fsck(git_folder(server, repo)) == []


def test_a_refused_push_leaves_nothing_behind(ask, api: HfApi, server: Server, run, repo: str, tmp_path: Path):
    git = git_folder(server, repo)
    head = api.model_info(repo).sha
    run("git", "clone", "-q", f"{server.endpoint.replace('://', f'://me:{server.token}@')}/{repo}", "work")
    before = objects(git)
    work = tmp_path / "work"
    (work / "m.bin").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n")
    run("git", "add", ".", cwd=work)
    run("git", "-c", "filter.lfs.clean=cat", "commit", "-q", "-m", "no object", cwd=work)
    assert "was not uploaded" in run("git", "push", "-q", "origin", "HEAD:main", cwd=work, ok=False).stderr
    line = f"{head} {'1' * 40} refs/heads/main\0report-status".encode()
    headers = {"Content-Type": "application/x-git-receive-pack-request"}
    damaged = b"%04x" % (len(line) + 4) + line + b"0000" + b"PACK\0\0\0\2\0\0\0\1" + b"x" * 50
    assert b"unpacker error" in ask("POST", f"/{repo}.git/git-receive-pack", damaged, headers=headers).body
    assert objects(git) == before
    assert left_unfinished(server.root) == []


def test_a_pull_request_whose_server_died_too_early_is_not_there(tmp_path: Path):
    hub = new_repo(tmp_path)
    folder = tmp_path / "repos/org/nav"
    lost = folder / "git/refs/pr/1"
    lost.parent.mkdir()
    lost.write_bytes((folder / "git/refs/heads/main").read_bytes())
    with Server(tmp_path) as server:
        assert not lost.exists()
        lost.parent.mkdir(exist_ok=True)
        lost.write_bytes((folder / "git/refs/heads/main").read_bytes())  # once more, while another server runs
        api = HfApi(endpoint=server.endpoint, token=hub.token)
        done = api.create_commit("org/nav", [CommitOperationAdd("a", b"a")], commit_message="x", create_pr=True)
        assert done.pr_num == 1
        assert api.model_info("org/nav", revision="refs/pr/1").sha == done.oid


def test_a_pull_request_whose_merge_was_not_written_down_can_be_merged(api: HfApi, server: Server, repo: str):
    pull = api.create_commit(repo, [CommitOperationAdd("a", b"a")], commit_message="x", create_pr=True)
    path = server.root / "repos" / repo / "discussions.json"
    before = path.read_bytes()
    api.merge_pull_request(repo, pull.pr_num)
    merged = api.model_info(repo).sha
    path.write_bytes(before)
    assert api.get_discussion_details(repo, pull.pr_num).status == "open"
    api.merge_pull_request(repo, pull.pr_num)
    assert api.get_discussion_details(repo, pull.pr_num).merge_commit_oid == api.model_info(repo).sha == merged


def test_a_move_that_broke_off_half_way_is_a_move(tmp_path: Path):
    hub = new_repo(tmp_path)
    (tmp_path / "repos/org/nav").rename(tmp_path / "repos/org/moved")
    assert hub.repo("org", "moved").id == "org/moved"
    assert [repo.id for repo in hub.repos()] == ["org/moved"]


@pytest.mark.parametrize("name", ["repos/org/nav", "repos/org/nav/git", "repos/org/nav/git/objects"])
def test_nothing_brings_a_deleted_repo_back(tmp_path: Path, name: str):
    hub = new_repo(tmp_path)
    repo = hub.repo("org", "nav")
    with repo.git_to_write() as git:
        sha = git.put_blob(b"a commit was on its way")
        (tmp_path / name).rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError):
            git.incoming.accept(sha)
    if name == "repos/org/nav":
        with pytest.raises(FileNotFoundError):
            repo.lfs.receive([b"x"], oid=hashlib.sha256(b"x").hexdigest(), size=1)
    assert not (tmp_path / name).exists()


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""


def test_a_disk_without_room_is_507_and_nothing_changed(environment, run, tmp_path: Path):
    """A limit on the size of files stands for a full disk."""
    root = tmp_path / "hub"
    with running(FULL + SERVE, root, environment) as process:
        endpoint, token = process.stdout.readline().split()
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo("org/nav")
        for path in ("a.txt", "m.bin"):
            with pytest.raises((HfHubHTTPError, RuntimeError)) as caught:
                api.upload_file(path_or_fileobj=io.BytesIO(os.urandom(2_000_000)), path_in_repo=path, repo_id="org/nav")
            refusal = caught.value if isinstance(caught.value, HfHubHTTPError) else caught.value.__cause__
            assert refusal.response.status_code == 507
            assert "no room for that: File too large" in str(refusal)
        run("git", "clone", "-q", f"{endpoint.replace('://', f'://me:{token}@')}/org/nav", "work")
        (tmp_path / "work" / "large").write_bytes(os.urandom(2_000_000))
        run("git", "add", ".", cwd=tmp_path / "work")
        run("git", "commit", "-q", "-m", "x", cwd=tmp_path / "work")
        assert (
            "File too large" in run("git", "push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work", ok=False).stderr
        )
        assert len(api.list_repo_commits("org/nav")) == 1
        assert left_unfinished(root) == []
        api.upload_file(path_or_fileobj=b"small", path_in_repo="a.txt", repo_id="org/nav")
    assert fsck(root / "repos/org/nav/git") == []


def test_a_repository_that_git_has_packed_is_the_same(api: HfApi, server: Server, repo: str, tmp_path: Path):
    """It is a real one: `git gc` may go over it."""
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"a/{number}", repo_id=repo)
    api.create_branch(repo, branch="exp/a")
    api.create_tag(repo, tag="v1", tag_message="x")
    before = (api.list_repo_refs(repo), api.list_repo_tree(repo, recursive=True), api.model_info(repo).sha)
    subprocess.run(["git", "gc", "-q", "--prune=now"], cwd=git_folder(server, repo), check=True)
    assert (git_folder(server, repo) / "packed-refs").read_text().count("refs/") == 3
    assert (api.list_repo_refs(repo), api.model_info(repo).sha) == (before[0], before[2])
    assert list(api.list_repo_tree(repo, recursive=True)) == list(before[1])
    api.upload_file(path_or_fileobj=b"new", path_in_repo="a/0", repo_id=repo, parent_commit=before[2][:7])
    api.delete_branch(repo, branch="exp/a")
    api.delete_tag(repo, tag="v1")
    api.create_branch(repo, branch="exp/a")
    api.upload_file(path_or_fileobj=b"new", path_in_repo="b", repo_id=repo, revision="exp/a")
    refs = api.list_repo_refs(repo)
    assert ([branch.name for branch in refs.branches], refs.tags) == (["exp/a", "main"], [])
    assert [item.title for item in api.list_repo_commits(repo)][-1] == "initial commit"
    assert Path(api.hf_hub_download(repo, "a/0", cache_dir=tmp_path)).read_bytes() == b"new"
    assert not [line for line in fsck(git_folder(server, repo)) if not line.startswith("unreachable tag")]


def test_many_that_start_at_once_each_have_a_folder_of_their_own(tmp_path: Path):
    """None takes another's new folder for a dead one's."""
    for path in (tmp_path / "dead-1", tmp_path / "dead-2" / "deep"):
        path.mkdir(parents=True)
    (tmp_path / "dead-file").touch()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: Scratch(tmp_path), range(200)))
    folders = {scratch.folder for scratch in made}
    assert len(folders) == 200
    assert set(tmp_path.iterdir()) == folders
    for scratch in made:
        scratch.write(scratch.folder / "x", b"x")
    Scratch(tmp_path)
    assert all((folder / "x").read_bytes() == b"x" for folder in folders)
    del made, scratch
    gc.collect()
    assert list(tmp_path.iterdir()) == []
