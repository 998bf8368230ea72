"""git over HTTP."""

import gzip
import hashlib
import io
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from metta_hub.localhub import LocalHub, Server, fetches
from metta_hub.localhub.lfs import Pointer
from metta_hub.localhub.limits import Limits


@pytest.fixture
def remote(server: Server):
    """The address of a repo, with a token in it."""
    return lambda repo, token=server.token: f"{server.endpoint.replace('://', f'://me:{token}@')}/{repo}"


@pytest.fixture
def git(run):
    def call(*words: str, **options) -> str:
        # Nothing here has git-lfs: pointers stay pointers.
        return run("git", "-c", "protocol.version=2", "-c", "init.defaultBranch=main", *words, **options).stdout

    return call


@pytest.fixture
def clone(git, remote, repo: str, tmp_path) -> Path:
    git("clone", "-q", remote(repo), "work")
    return tmp_path / "work"


def test_clone_with_and_without_git_suffix(api: HfApi, server: Server, git, repo: str, tmp_path):
    data = io.BytesIO(b"weights")
    api.create_commit(
        repo, [CommitOperationAdd("a/b.txt", b"text"), CommitOperationAdd("m.bin", data)], commit_message="x"
    )
    git("clone", "-q", f"{server.endpoint}/{repo}", "one")
    git("clone", "-q", f"{server.endpoint}/{repo}.git", "two")
    for name in ("one", "two"):
        assert (tmp_path / name / "a/b.txt").read_text() == "text"
        assert (
            (tmp_path / name / "m.bin")
            .read_text()
            .startswith("version https://git-lfs.github.com/spec/v1\noid sha256:")
        )
        assert git("rev-parse", "HEAD", cwd=tmp_path / name).strip() == api.model_info(repo).sha
        assert git("branch", "--show-current", cwd=tmp_path / name).strip() == "main"


def test_fetch_brings_what_came_later(api: HfApi, git, clone: Path, repo: str):
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="n", repo_id=repo)
    api.create_tag(repo, tag="v1", tag_message="first")
    git("pull", "-q", "--tags", cwd=clone)
    assert (clone / "n").read_text() == "2"
    assert git("tag", cwd=clone).split() == ["v1"]
    git("fetch", "-q", "--depth", "1", "origin", cwd=clone)


def test_shallow_clone(api: HfApi, server: Server, git, repo: str, tmp_path):
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="n", repo_id=repo)
    git("clone", "-q", "--depth", "1", f"{server.endpoint}/{repo}", "shallow")
    assert git("rev-list", "--count", "HEAD", cwd=tmp_path / "shallow").strip() == "1"


def test_push_is_seen_by_the_api(api: HfApi, git, clone: Path, repo: str):
    (clone / "sub").mkdir()
    (clone / "sub" / "ä.txt").write_text("pushed")
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "by git", cwd=clone)
    git("tag", "-a", "-m", "one", "v1", cwd=clone)
    git("push", "-q", "origin", "main", "main:refs/heads/exp/a", "v1", cwd=clone)
    assert api.list_repo_commits(repo)[0].title == "by git"
    assert api.list_repo_commits(repo)[0].authors == ["tester"]
    assert api.list_repo_files(repo, revision="exp/a") == [".gitattributes", "sub/ä.txt"]
    assert [tag.name for tag in api.list_repo_refs(repo).tags] == ["v1"]
    # and on with the API, on top of the pushed pack
    api.upload_file(path_or_fileobj=b"x", path_in_repo="sub/more", repo_id=repo)
    git("pull", "-q", cwd=clone)
    git("push", "-q", "origin", ":exp/a", ":v1", cwd=clone)
    assert [branch.name for branch in api.list_repo_refs(repo).branches] == ["main"]
    assert api.list_repo_refs(repo).tags == []


def test_pushing_an_existing_commit_as_a_branch(api: HfApi, git, clone: Path, repo: str):
    git("push", "-q", "origin", "main:refs/heads/copy", cwd=clone)
    assert {branch.name for branch in api.list_repo_refs(repo).branches} == {"copy", "main"}


def test_push_of_a_stale_branch_is_refused_and_force_wins(api: HfApi, git, clone: Path, repo: str):
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="a", repo_id=repo)
    (clone / "a").write_text("mine")
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "mine", cwd=clone)
    git("push", "-q", "origin", "main", cwd=clone, ok=False)
    assert api.list_repo_commits(repo)[0].title != "mine"
    git("push", "-q", "--force", "origin", "main", cwd=clone)
    assert api.list_repo_commits(repo)[0].title == "mine"


def refused(git, clone: Path, *words: str) -> None:
    git("push", "-q", "origin", *words, cwd=clone, ok=False)


def test_pushes_that_break_the_rules_change_nothing(
    api: HfApi, server: Server, git, clone: Path, repo: str, monkeypatch
):
    head = api.model_info(repo).sha
    refused(git, clone, ":main")
    refused(git, clone, "main:refs/pr/1")
    refused(git, clone, "main:refs/notes/x")

    def commit(path: str, content: str) -> None:
        git("reset", "-q", "--hard", "origin/main", cwd=clone)
        (clone / path).write_text(content)
        git("add", ".", cwd=clone)
        git("commit", "-q", "-m", "bad", cwd=clone)

    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
    commit("m.bin", pointer)
    refused(git, clone, "main")
    commit("back\\slash", "x")
    refused(git, clone, "main")
    refused(git, clone, "--atomic", "main", "HEAD~1:refs/heads/fine")
    monkeypatch.setattr(server.hub.limits, "regular_file", 1000)
    commit("large.txt", "x" * 1001)
    refused(git, clone, "main")
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert [(branch.name, branch.target_commit) for branch in refs.branches] == [("main", head)]
    assert refs.pull_requests == []


def test_pointer_whose_object_is_stored_can_be_pushed(api: HfApi, git, clone: Path, repo: str):
    api.create_commit(repo, [CommitOperationAdd("m.bin", io.BytesIO(b"weights"))], commit_message="x")
    git("pull", "-q", cwd=clone)
    git("mv", "m.bin", "n.bin", cwd=clone)
    git("commit", "-q", "-m", "move", cwd=clone)
    git("push", "-q", "origin", "main", cwd=clone)
    assert api.get_paths_info(repo, ["n.bin"])[0].lfs.size == 7


def test_an_object_sent_before_a_push_stays_with_it(
    ask, api: HfApi, git, clone: Path, repo: str, server: Server, tmp_path: Path
):
    """git-lfs sends the objects first; until the push they only wait."""
    data = b"weights by git-lfs"
    pointer = Pointer(hashlib.sha256(data).hexdigest(), len(data))
    asked = {"operation": "upload", "objects": [{"oid": pointer.oid, "size": pointer.size}]}
    answer = ask("POST", f"/{repo}.git/info/lfs/objects/batch", asked).json["objects"][0]
    assert ask("PUT", answer["actions"]["upload"]["href"], data, token=None).status == 200
    (clone / "m.bin").write_bytes(pointer.render())
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "large", cwd=clone)
    git("push", "-q", "origin", "main", cwd=clone)
    LocalHub(server.root, limits=Limits(link_seconds=-1))
    assert Path(api.hf_hub_download(repo, "m.bin", cache_dir=tmp_path / "cache")).read_bytes() == data


def test_push_to_an_open_pull_request(api: HfApi, git, clone: Path, repo: str):
    api.create_pull_request(repo, title="by git")
    (clone / "a").write_text("a")
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "work", cwd=clone)
    git("push", "-q", "origin", "main:refs/pr/1", cwd=clone)
    assert "a" in api.list_repo_files(repo, revision="refs/pr/1")
    assert "a" not in api.list_repo_files(repo)


def test_private_repo_asks_git_for_a_password(api: HfApi, ask, git, remote, server: Server, other_user, repo: str):
    api.update_repo_settings(repo, visibility="private")
    answer = ask("GET", f"/{repo}/info/refs?service=git-upload-pack", token=None)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
    git("clone", "-q", f"{server.endpoint}/{repo}", "a", ok=False)
    git("clone", "-q", remote(repo, "hf_wrong"), "b", ok=False)
    git("clone", "-q", remote(repo, other_user.token), "c", ok=False)
    git("clone", "-q", remote(repo), "d")


def test_pushing_needs_the_right_to_write(
    git, remote, server: Server, reader: HfApi, other_user, clone: Path, repo: str
):
    git("commit", "-q", "--allow-empty", "-m", "x", cwd=clone)
    for address in (f"{server.endpoint}/{repo}", remote(repo, reader.token), remote(repo, other_user.token)):
        git("push", "-q", address, "main", cwd=clone, ok=False)
    git("push", "-q", remote(repo), "main", cwd=clone)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0000",
        b"garbage",
        b"00010000",
        b"ffff",
        b"0032want 0000000000000000000000000000000000000000\n00000009done\n",
    ],
)
def test_nonsense_in_gits_protocol_is_answered(ask, api: HfApi, repo: str, body: bytes):
    head = api.model_info(repo).sha
    for service in ("git-upload-pack", "git-receive-pack"):
        headers = {"Content-Type": f"application/x-{service}-request"}
        assert ask("POST", f"/{repo}.git/{service}", body, headers=headers).status in (200, 400)
        assert ask("POST", f"/{repo}.git/{service}", body, headers={"Content-Type": "text/plain"}).status == 400
    gzipped = {"Content-Type": "application/x-git-upload-pack-request", "Content-Encoding": "gzip"}
    assert ask("POST", f"/{repo}.git/git-upload-pack", b"not gzip", headers=gzipped).status == 400
    assert ask("GET", f"/{repo}.git/info/refs").status == 404
    assert api.model_info(repo).sha == head


def test_damaged_packs_are_refused(ask, api: HfApi, repo: str):
    head = api.model_info(repo).sha
    line = f"{head} {'1' * 40} refs/heads/main\0report-status".encode()
    command = b"%04x" % (len(line) + 4) + line + b"0000"
    for pack in (b"", b"PACK", b"PACK\0\0\0\2\0\0\0\1" + b"x" * 50):
        answer = ask(
            "POST",
            f"/{repo}.git/git-receive-pack",
            command + pack,
            headers={"Content-Type": "application/x-git-receive-pack-request"},
        )
        assert answer.status == 200
        assert b"ng refs/heads/main" in answer.body
    assert api.model_info(repo).sha == head


def test_every_repository_on_disk_is_sound(server: Server, api: HfApi, git, clone: Path, repo: str):
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"a/{number}", repo_id=repo)
    api.create_tag(repo, tag="v1", tag_message="x")
    api.create_commit(repo, [CommitOperationAdd("z", b"")], commit_message="x", create_pr=True)
    api.delete_folder("a", repo)
    for folder in (server.root / "repos").glob("*/*/git"):
        done = subprocess.run(
            ["git", "fsck", "--strict", "--full"], cwd=folder, capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if not line.startswith(("Checking", "notice:"))]
        assert (done.returncode, complaints) == (0, []), (folder, done.stdout)
        assert not [line for line in done.stdout.splitlines() if not line.startswith("dangling")]


def test_merges_keep_executables_and_links(api: HfApi, git, clone: Path, repo: str):
    api.create_pull_request(repo, title="modes")
    (clone / "run.sh").write_text("#!/bin/sh\n")
    (clone / "run.sh").chmod(0o755)
    (clone / "link").symlink_to("run.sh")
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "modes", cwd=clone)
    git("push", "-q", "origin", "HEAD:refs/pr/1", cwd=clone)
    api.upload_file(path_or_fileobj=b"on", path_in_repo="other", repo_id=repo)
    api.merge_pull_request(repo, 1)
    git("fetch", "-q", cwd=clone)
    modes = {line.split("\t")[1]: line.split()[0] for line in git("ls-tree", "origin/main", cwd=clone).splitlines()}
    assert (modes["run.sh"], modes["link"], modes["other"]) == ("100755", "120000", "100644")
    api.upload_file(path_or_fileobj=b"#!/bin/bash\n", path_in_repo="run.sh", repo_id=repo)
    git("fetch", "-q", cwd=clone)
    assert git("ls-tree", "origin/main", "run.sh", cwd=clone).startswith("100755")


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "a/../../x", "..", "C:/x", "..\\x", "sub/../../../x"])
def test_links_that_lead_out_of_the_repo_are_refused(api: HfApi, git, clone: Path, repo: str, target: str):
    (clone / "link").symlink_to(target)
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "link", cwd=clone)
    refused(git, clone, "main")
    assert api.list_repo_files(repo) == [".gitattributes"]


def test_links_inside_the_repo_are_files_that_name_their_target(api: HfApi, ask, git, clone: Path, repo: str):
    (clone / "sub").mkdir()
    (clone / "sub" / "link").symlink_to("../.gitattributes")
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", "link", cwd=clone)
    git("push", "-q", "origin", "main", cwd=clone)
    assert ask("GET", f"/{repo}/resolve/main/sub/link").body == b"../.gitattributes"


def test_submodules_are_refused(api: HfApi, git, clone: Path, repo: str):
    head = git("rev-parse", "HEAD", cwd=clone).strip()
    git("update-index", "--add", "--cacheinfo", f"160000,{head},module", cwd=clone)
    git("commit", "-q", "-m", "submodule", cwd=clone)
    refused(git, clone, "main")
    assert api.model_info(repo).sha == head


def test_malformed_objects_are_refused(api: HfApi, git, clone: Path, repo: str):
    """What git itself would not make: the repository stays one that git fsck --strict finds sound."""
    blob = git("hash-object", "-w", ".gitattributes", cwd=clone).strip()

    def entry(name: str, mode: str = "100644") -> bytes:
        return f"{mode} {name}".encode() + b"\0" + bytes.fromhex(blob)

    for content in (
        entry("b") + entry("a"),
        entry("a") + entry("a"),
        entry("a", "0100644"),
        entry("a", "100000"),
        entry(".git"),
        entry(".GIT"),
        entry(".."),
        entry("a\\b"),
        entry("x" * 300),
    ):
        (clone.parent / "tree").write_bytes(content)
        tree = git("hash-object", "-t", "tree", "-w", "--literally", "../tree", cwd=clone).strip()
        commit = git("commit-tree", tree, "-p", "origin/main", "-m", "bad", cwd=clone).strip()
        refused(git, clone, f"{commit}:refs/heads/main")
    (clone.parent / "commit").write_text(f"tree {tree}\nauthor nobody\ncommitter x <y> z\n\nbad")
    commit = git("hash-object", "-t", "commit", "-w", "--literally", "../commit", cwd=clone).strip()
    refused(git, clone, f"{commit}:refs/heads/bad")
    refused(git, clone, f"{blob}:refs/tags/blob")
    assert [branch.name for branch in api.list_repo_refs(repo).branches] == ["main"]


def test_ids_in_any_case_for_git_and_files(api: HfApi, ask, server: Server, git, tmp_path):
    api.create_repo("Org/Cased-Git")
    git("clone", "-q", f"{server.endpoint}/oRG/cased-GIT.git", "cased")
    assert (tmp_path / "cased" / ".gitattributes").exists()
    assert ask("HEAD", "/ORG/CASED-GIT/resolve/main/.gitattributes").status == 200
    done = api.upload_file(path_or_fileobj=io.BytesIO(b"w"), path_in_repo="m.bin", repo_id="org/cased-git")
    assert done.commit_url.startswith(f"{api.endpoint}/Org/Cased-Git/commit/")


def test_a_fetch_that_unpacks_to_too_much_is_refused(ask, server: Server, repo: str, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "fetch_body", 10_000)
    headers = {"Content-Type": "application/x-git-upload-pack-request", "Content-Encoding": "gzip"}
    assert ask("POST", f"/{repo}.git/git-upload-pack", gzip.compress(b"0" * 20_000), headers=headers).status == 413
    assert ask("POST", f"/{repo}.git/git-upload-pack", b"x" * 20_000, headers=headers).status == 413


def test_what_was_offered_can_be_fetched_after_the_branch_moved_on(ask, api: HfApi, repo: str):
    """Between a client's look at the references and its request, another commit may land."""
    offered = api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"on", path_in_repo="a", repo_id=repo)
    lost = api.create_commit(repo, [CommitOperationAdd("b", b"b")], commit_message="x", revision="main").oid
    api.super_squash_history(repo)

    def fetch(sha: str) -> int:
        line = f"want {sha} side-band-64k thin-pack ofs-delta\n".encode()
        body = b"%04x" % (len(line) + 4) + line + b"00000009done\n"
        headers = {"Content-Type": "application/x-git-upload-pack-request"}
        answer = ask("POST", f"/{repo}.git/git-upload-pack", body, headers=headers)
        assert answer.status != 200 or b"PACK" in answer.body
        return answer.status

    # Squashed away, and of no other reference: not to be had any more.
    assert fetch(lost) == fetch(offered) == 400
    head = api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"on and on", path_in_repo="a", repo_id=repo)
    assert fetch(head) == 200
    assert fetch("0" * 40) == 400


def test_a_branch_that_moves_while_a_fetch_is_answered_changes_nothing_of_it(
    api: HfApi, git, remote, server: Server, repo: str, monkeypatch
):
    """Which references there are is looked at once; what is offered, wanted and sent is of that moment."""
    real, moved = fetches._wants, []

    def wants(request):
        found = real(request)
        moved.append(api.upload_file(path_or_fileobj=b"on", path_in_repo="a", repo_id=repo).oid)
        return found

    monkeypatch.setattr(fetches, "_wants", wants)
    git("clone", "-q", remote(repo), "here")
    assert moved


def test_commits_that_were_pushed_to_a_pull_request_are_among_its_events(api: HfApi, git, clone: Path, repo: str):
    api.create_pull_request(repo, title="by git")
    for number in (1, 2):
        (clone / "a").write_text(str(number))
        git("add", ".", cwd=clone)
        git("commit", "-q", "-m", f"work {number}\n\nand why", cwd=clone)
    git("push", "-q", "origin", "main:refs/pr/1", cwd=clone)
    events = [event for event in api.get_discussion_details(repo, 1).events if event.type == "commit"]
    assert {(event.summary, event.author) for event in events} == {("work 1", "tester"), ("work 2", "tester")}
    api.merge_pull_request(repo, 1)
    kinds = [event.type for event in api.get_discussion_details(repo, 1).events]
    assert sorted(kinds) == ["comment", "commit", "commit", "status-change"]


def test_an_atomic_push_with_names_in_each_others_way_changes_nothing(api: HfApi, git, clone: Path, repo: str):
    refused(git, clone, "--atomic", "main:refs/heads/fine", "main:refs/heads/x", "main:refs/heads/x/y")
    assert [branch.name for branch in api.list_repo_refs(repo).branches] == ["main"]
    git("push", "-q", "origin", "main:refs/heads/x", cwd=clone)
    refused(git, clone, "--atomic", "main:refs/heads/fine", "main:refs/heads/x/y")
    git("push", "-q", "--atomic", "origin", ":refs/heads/x", "main:refs/heads/fine", cwd=clone)
    git("push", "-q", "origin", "main:refs/heads/x/y", cwd=clone)
    assert [branch.name for branch in api.list_repo_refs(repo).branches] == ["fine", "main", "x/y"]
