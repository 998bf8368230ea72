"""Commits over HTTP."""

import io
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    hf_hub_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localhub.helpers import HEADER, file_line, ndjson
from metta_hub.localhub import Server
from metta_hub.localhub.errors import UnprocessableError
from metta_hub.localhub.names import check_path


def read(api: HfApi, repo: str, path: str, tmp_path, revision: str | None = None) -> bytes:
    local = hf_hub_download(
        repo, path, revision=revision, endpoint=api.endpoint, token=api.token, cache_dir=tmp_path / "cache"
    )
    return Path(local).read_bytes()


def test_one_commit_with_everything(api: HfApi, repo: str, tmp_path):
    large = b"w" * 300_000
    done = api.create_commit(
        repo,
        [
            CommitOperationAdd("notes.txt", b"hello"),
            CommitOperationAdd("sub/empty.txt", b""),
            CommitOperationAdd("model.safetensors", io.BytesIO(large)),
        ],
        commit_message="title",
        commit_description="text",
    )
    assert done.commit_url == f"{api.endpoint}/{repo}/commit/{done.oid}"
    assert done.pr_url is None
    assert api.model_info(repo).sha == done.oid
    assert read(api, repo, "notes.txt", tmp_path) == b"hello"
    assert read(api, repo, "sub/empty.txt", tmp_path) == b""
    assert read(api, repo, "model.safetensors", tmp_path) == large
    assert len(api.list_repo_commits(repo)) == 2


def test_upload_mode_follows_gitattributes_of_that_revision(api: HfApi, ask, repo: str):
    def mode(path: str, size: int = 10, revision: str = "main") -> str:
        body = {"files": [{"path": path, "size": size, "sample": ""}]}
        return ask("POST", f"/api/models/{repo}/preupload/{revision}", body).json["files"][0]["uploadMode"]

    for path in ("a.safetensors", "deep/in/a.pt", "a.bin", "a.tar.gz", "a.npz", "events.tfevents.1", "a.zip", "a.mp4"):
        assert mode(path) == "lfs", path
    for path in ("a.json", "a.txt", "image.png", "recipe", "a.yaml"):
        assert mode(path) == "regular", path
    assert mode("a.txt", 10 * 1024 * 1024) == "regular"
    assert mode("a.txt", 10 * 1024 * 1024 + 1) == "lfs"
    api.create_branch(repo, branch="before")
    attributes = b"*.png filter=lfs diff=lfs merge=lfs -text\n*.pt -filter\n"
    api.upload_file(path_or_fileobj=attributes, path_in_repo=".gitattributes", repo_id=repo)
    api.upload_file(path_or_fileobj=b"*.json filter=lfs\n", path_in_repo="sub/.gitattributes", repo_id=repo)
    assert (mode("image.png"), mode("a.pt"), mode("a.bin")) == ("lfs", "regular", "regular")
    assert (mode("a.json"), mode("sub/a.json"), mode("sub/deep/a.json")) == ("regular", "lfs", "lfs")
    assert mode("image.png", revision="before") == "regular"


def test_preupload_tells_the_current_id(api: HfApi, ask, repo: str):
    api.create_commit(
        repo,
        [CommitOperationAdd("a.txt", b"hello\n"), CommitOperationAdd("a.bin", io.BytesIO(b"hello\n"))],
        commit_message="x",
    )
    body = {"files": [{"path": path, "size": 6, "sample": ""} for path in ("a.txt", "a.bin", "new.txt")]}
    text, large, new = ask("POST", f"/api/models/{repo}/preupload/main", body).json["files"]
    assert text["oid"] == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert large["oid"] == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert "oid" not in new


def test_gitignore_is_told_in_preupload(api: HfApi, ask, repo: str):
    def ignored(path: str, **more: str) -> bool:
        body = {"files": [{"path": path, "size": 1, "sample": ""}], **more}
        return ask("POST", f"/api/models/{repo}/preupload/main", body).json["files"][0]["shouldIgnore"]

    assert ignored("a/b.log", gitIgnore="*.log\n!keep.log\nbuild/\n")
    assert ignored("build/deep/x.txt", gitIgnore="build/\n")
    assert not ignored("keep.log", gitIgnore="*.log\n!keep.log\n")
    api.upload_file(path_or_fileobj=b"*.tmp\n", path_in_repo=".gitignore", repo_id=repo)
    assert ignored("x.tmp")


def test_unchanged_files_make_no_commit(api: HfApi, server: Server, repo: str):
    operations = lambda: [  # noqa: E731 - the client changes its operations, so each call needs new ones
        CommitOperationAdd("a.txt", b"same"),
        CommitOperationAdd("a.bin", io.BytesIO(b"same")),
    ]
    first = api.create_commit(repo, operations(), commit_message="one")
    server.requests.clear()
    again = api.create_commit(repo, operations(), commit_message="two")
    assert again.oid == first.oid
    assert not [entry for entry in server.requests if "/commit/" in entry.path or "/api/lfs/" in entry.path]


def test_same_tree_as_head_is_no_new_commit(ask, repo: str):
    body = ndjson(HEADER, file_line("a.txt"))
    first = ask("POST", f"/api/models/{repo}/commit/main", body).json["commitOid"]
    assert ask("POST", f"/api/models/{repo}/commit/main", body).json["commitOid"] == first


def test_parent_commit_is_compared_with_head(api: HfApi, repo: str):
    first = api.model_info(repo).sha
    second = api.create_commit(repo, [CommitOperationAdd("a", b"1")], commit_message="x", parent_commit=first).oid
    api.create_commit(repo, [CommitOperationAdd("a", b"2")], commit_message="x", parent_commit=second[:7])
    for stale in (first, second[:7], "0" * 40):
        with pytest.raises(HfHubHTTPError, match="branch was updated since") as caught:
            api.create_commit(repo, [CommitOperationAdd("a", b"3")], commit_message="x", parent_commit=stale)
        assert caught.value.response.status_code == 412


def test_deleting_files_and_folders(api: HfApi, repo: str):
    paths = ["a.txt", "d/1", "d/2", "d/e/3", "f/4"]
    api.create_commit(repo, [CommitOperationAdd(path, b"x") for path in paths], commit_message="x")
    api.create_commit(
        repo,
        [
            CommitOperationDelete("a.txt"),
            CommitOperationDelete("d/e/"),
            CommitOperationDelete("f", is_folder=False),  # a folder under a file's name goes too
        ],
        commit_message="x",
    )
    assert api.list_repo_files(repo) == [".gitattributes", "d/1", "d/2"]
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.delete_file("nope.txt", repo)
    with pytest.raises(EntryNotFoundError):
        api.delete_folder("nope", repo)


def test_changes_apply_in_order(ask, api: HfApi, repo: str):
    delete = {"key": "deletedFile", "value": {"path": "a"}}
    done = ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line("a"), delete, file_line("a/b")))
    assert done.status == 200
    assert api.list_repo_files(repo) == [".gitattributes", "a/b"]


def test_file_and_folder_of_one_name_are_refused(ask, repo: str):
    for first, second in (("a", "a/b"), ("a/b", "a")):
        answer = ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line(first), file_line(second)))
        assert answer.status == 422


def test_copies(api: HfApi, server: Server, repo: str, tmp_path):
    api.create_commit(
        repo,
        [CommitOperationAdd("a.txt", b"text"), CommitOperationAdd("a.bin", io.BytesIO(b"weights"))],
        commit_message="x",
    )
    server.requests.clear()
    api.create_commit(
        repo,
        [CommitOperationCopy("a.txt", "b/a.txt"), CommitOperationCopy("a.bin", "b/a.bin")],
        commit_message="copy",
    )
    assert not [entry for entry in server.requests if "/api/lfs/" in entry.path]  # server-side
    assert read(api, repo, "b/a.txt", tmp_path) == b"text"
    assert read(api, repo, "b/a.bin", tmp_path) == b"weights"


def test_commit_is_all_or_nothing(ask, api: HfApi, server: Server, repo: str):
    head = api.model_info(repo).sha
    missing = {"key": "lfsFile", "value": {"path": "m.bin", "algo": "sha256", "oid": "0" * 64, "size": 3}}
    for bad, status in (
        (missing, 422),
        ({"key": "deletedFile", "value": {"path": "nope"}}, 404),
        (file_line("../x"), 422),
        ({"key": "file", "value": {"path": "b", "content": "%%%", "encoding": "base64"}}, 422),
        ({"key": "copyFile", "value": {"path": "b"}}, 400),
        ({"key": "file", "value": "nothing"}, 400),
        ({"key": "file", "value": {"path": 7, "content": ""}}, 400),
    ):
        answer = ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line("good"), bad))
        assert answer.status == status
        assert answer.json["error"]
    assert api.model_info(repo).sha == head


def test_broken_commit_bodies_are_refused(ask, api: HfApi, repo: str):
    head = api.model_info(repo).sha
    for body in (b"", b"\n", b"{", b"[]", b"null\n", b'"x"', b"\xff\xfe", ndjson(file_line("a")), b"[" * 100_000):
        assert ask("POST", f"/api/models/{repo}/commit/main", body).status == 400
    for header in ({}, {"summary": ""}, {"summary": 1}, {"summary": "x", "parentCommit": "zz"}):
        assert ask("POST", f"/api/models/{repo}/commit/main", ndjson({"key": "header", "value": header})).status == 400
    assert api.model_info(repo).sha == head


def test_lfs_file_of_another_size_is_refused(ask, api: HfApi, repo: str):
    api.create_commit(repo, [CommitOperationAdd("a.bin", io.BytesIO(b"12345"))], commit_message="x")
    oid = api.get_paths_info(repo, ["a.bin"])[0].lfs.sha256
    line = {"key": "lfsFile", "value": {"path": "b.bin", "algo": "sha256", "oid": oid, "size": 6}}
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, line)).status == 422


def test_large_file_that_gitattributes_does_not_name_is_added_to_it(ask, api: HfApi, repo: str, tmp_path):
    api.create_commit(repo, [CommitOperationAdd("a.bin", io.BytesIO(b"weights"))], commit_message="x")
    oid = api.get_paths_info(repo, ["a.bin"])[0].lfs.sha256
    line = {"key": "lfsFile", "value": {"path": "big [1] file.txt", "algo": "sha256", "oid": oid}}
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, line)).status == 200
    attributes = read(api, repo, ".gitattributes", tmp_path).decode()
    assert "/big[[:space:]]\\[1\\][[:space:]]file.txt filter=lfs" in attributes
    files = {"files": [{"path": "big [1] file.txt", "size": 1, "sample": ""}]}
    assert ask("POST", f"/api/models/{repo}/preupload/main", files).json["files"][0]["uploadMode"] == "lfs"


def test_missing_repo_and_branch(api: HfApi, repo: str):
    with pytest.raises(RepositoryNotFoundError):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="org/missing")
    with pytest.raises(RevisionNotFoundError, match="Invalid rev id"):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo, revision="missing")


def test_commits_go_to_branches_only(ask, api: HfApi, repo: str):
    sha = api.model_info(repo).sha
    api.create_tag(repo, tag="v1")
    api.create_branch(repo, branch="exp/a")
    for revision in (sha, "v1", "refs%2Ftags%2Fv1"):
        answer = ask("POST", f"/api/models/{repo}/commit/{revision}", ndjson(HEADER, file_line("a")))
        assert answer.headers["X-Error-Code"] == "RevisionNotFound"
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo, revision="exp/a")
    assert "a" in api.list_repo_files(repo, revision="exp/a")
    assert "a" not in api.list_repo_files(repo)


def test_pull_request_by_commit_then_more_commits(api: HfApi, other_user: HfApi, repo: str):
    operations = [CommitOperationAdd("a.txt", b"1"), CommitOperationAdd("a.bin", io.BytesIO(b"weights"))]
    done = other_user.create_commit(repo, operations, commit_message="better", create_pr=True)
    assert done.pr_url == f"{api.endpoint}/{repo}/discussions/1"
    assert (done.pr_num, done.pr_revision) == (1, "refs/pr/1")
    assert "a.txt" not in api.list_repo_files(repo)
    assert "a.txt" in api.list_repo_files(repo, revision="refs/pr/1")
    more = other_user.upload_file(path_or_fileobj=b"2", path_in_repo="b.txt", repo_id=repo, revision="refs/pr/1")
    titles = [item.title for item in api.list_repo_commits(repo, revision="refs/pr/1")]
    assert titles == ["Upload b.txt with huggingface_hub", "better", "initial commit"]
    details = api.get_discussion_details(repo, 1)
    assert [event.oid for event in details.events if event.type == "commit"] == [done.oid, more.oid]
    assert details.status == "open"


def test_pull_requests_start_from_branches(api: HfApi, repo: str):
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(
            repo,
            [CommitOperationAdd("a", b"1")],
            commit_message="x",
            create_pr=True,
            revision=api.model_info(repo).sha,
        )


def test_pull_request_of_others_is_theirs(api: HfApi, other_user: HfApi, server: Server, repo: str):
    third = HfApi(endpoint=server.endpoint, token=server.hub.add_user("third"))
    other_user.create_commit(repo, [CommitOperationAdd("a", b"1")], commit_message="x", create_pr=True)
    with pytest.raises(HfHubHTTPError) as caught:
        third.upload_file(path_or_fileobj=b"1", path_in_repo="b", repo_id=repo, revision="refs/pr/1")
    assert caught.value.response.status_code == 403
    api.change_discussion_status(repo, 1, "closed")
    with pytest.raises(BadRequestError, match="not an open pull request"):
        other_user.upload_file(path_or_fileobj=b"1", path_in_repo="b", repo_id=repo, revision="refs/pr/1")


def test_upload_folder_is_one_commit(api: HfApi, repo: str, tmp_path):
    for name in ("a.txt", "sub/b.bin", "sub/c.json"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(name.encode() * 100)
    api.upload_folder(repo_id=repo, folder_path=tmp_path / "run", path_in_repo="out", delete_patterns="*")
    assert api.list_repo_files(repo) == [".gitattributes", "out/a.txt", "out/sub/b.bin", "out/sub/c.json"]
    assert len(api.list_repo_commits(repo)) == 2


def test_145_megabytes_of_regular_files_in_one_commit(api: HfApi, repo: str):
    block = bytes(range(256)) * (9 * 1024 * 4)  # 9 MiB
    operations = [CommitOperationAdd(f"part{n}.text", b"%d" % n + block) for n in range(12)]
    api.create_commit(repo, operations, commit_message="many")
    assert len(api.list_repo_files(repo)) == 13


def test_bounds_on_commits(ask, repo: str, server: Server, monkeypatch):
    limits = server.hub.limits
    monkeypatch.setattr(limits, "commit_lines", 3)
    body = ndjson(HEADER, *(file_line(f"a{n}") for n in range(5)))
    assert ask("POST", f"/api/models/{repo}/commit/main", body).status == 413
    monkeypatch.setattr(limits, "commit_line", 200)
    body = ndjson(HEADER, file_line("a", b"x" * 500))
    assert ask("POST", f"/api/models/{repo}/commit/main", body).status == 413
    monkeypatch.setattr(limits, "commit_body", 300)
    assert ask("POST", f"/api/models/{repo}/commit/main", body).status == 413


BAD_PATHS = [
    "", "/", "/etc/passwd", "../x", "a/../../x", "a/..", ".", "./a", "a//b", "a/", "..\\x", "a\\b", ".git/config",
    "a/.GIT/hooks/x", ".git ", ".git.", "git~1/x", ".g\u200cit/x", ".git::$INDEX_ALLOCATION/x", "a\0b", "a\nb",
    "x" * 1025, "y" * 300, "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS)
def test_bad_paths_are_refused_everywhere(ask, api: HfApi, repo: str, path: str):
    for body in (
        ndjson(HEADER, file_line(path)),
        ndjson(HEADER, {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": "0" * 64}}),
        ndjson(HEADER, {"key": "deletedFile", "value": {"path": path}}),
    ):
        assert ask("POST", f"/api/models/{repo}/commit/main", body).status in (400, 404, 422)
    files = {"files": [{"path": path, "size": 1, "sample": ""}]}
    assert ask("POST", f"/api/models/{repo}/preupload/main", files).status in (400, 422)
    assert api.list_repo_files(repo) == [".gitattributes"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(alphabet="./\\ .gitGIT~1:\0a\n\u200c", max_size=8), max_size=4))
def test_accepted_paths_stay_inside(parts: Iterable[str]):
    path = "/".join(parts)
    try:
        check_path(path)
    except UnprocessableError:
        return
    assert not path.startswith("/")
    for segment in path.split("/"):
        assert segment not in ("", ".", "..")
        assert segment.lower() != ".git"


def test_the_deepest_path_there_can_be(ask, api: HfApi, repo: str):
    path = "a/" * 511 + "a"
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line(path))).status == 200
    assert path in api.list_repo_files(repo)
    assert api.model_info(repo).siblings[1].rfilename == path


def test_only_writers_are_told_how_to_upload(ask, other_user: HfApi, repo: str):
    body = {"files": [{"path": "a", "size": 1, "sample": ""}]}
    address = f"/api/models/{repo}/preupload/main"
    assert ask("POST", address, body, token=other_user.token).status == 403
    assert ask("POST", f"{address}?create_pr=1", body, token=other_user.token).status == 200


def test_a_commit_sent_again_is_the_commit_that_is_there(ask, api: HfApi, other_user: HfApi, repo: str):
    """Its answer got lost, and the client tried again with the same parent."""
    head = api.model_info(repo).sha
    header = {"key": "header", "value": {"summary": "x", "description": "y", "parentCommit": head}}
    body = ndjson(header, file_line("a", b"1"), file_line("b", b"2"))
    first = ask("POST", f"/api/models/{repo}/commit/main", body).json["commitOid"]
    again = ask("POST", f"/api/models/{repo}/commit/main", body)
    assert (again.status, again.json["commitOid"]) == (200, first)
    for other in (
        ndjson(header, file_line("a", b"1"), file_line("b", b"3")),
        ndjson(header, file_line("a", b"1")),
        ndjson({**header, "value": {**header["value"], "summary": "z"}}, file_line("a", b"1"), file_line("b", b"2")),
    ):
        assert ask("POST", f"/api/models/{repo}/commit/main", other).status == 412
    api.upload_file(path_or_fileobj=b"3", path_in_repo="c", repo_id=repo)
    assert ask("POST", f"/api/models/{repo}/commit/main", body).status == 412
    assert len(api.list_repo_commits(repo)) == 3


def test_regular_file_over_the_limit_is_refused_as_in_a_push(ask, server: Server, repo: str, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "regular_file", 1000)
    lines = [file_line("a", b"x" * 1001), {"key": "file", "value": {"path": "b", "content": "x" * 1001}}]
    for line in lines:
        answer = ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, line))
        assert (answer.status, "send it as LFS" in answer.json["error"]) == (422, True)
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line("a", b"x" * 1000))).status == 200


def test_backslash_path_is_422(ask, api: HfApi, repo: str):
    answer = ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line("..\\x")))
    assert answer.status == 422
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit(repo, [CommitOperationAdd("a\\b", b"1")], commit_message="x")
    assert caught.value.response.status_code == 422


def test_lfs_file_that_is_not_stored_is_4xx_and_nothing_changed(ask, api: HfApi, repo: str):
    line = {"key": "lfsFile", "value": {"path": "m.bin", "algo": "sha256", "oid": "a" * 64, "size": 3}}
    answer = ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line("a"), line))
    assert (answer.status, "upload it first" in answer.json["error"]) == (422, True)
    assert len(api.list_repo_commits(repo)) == 1


def test_commit_answer_has_the_shape_that_clients_read(ask, server: Server, repo: str):
    body = ndjson(HEADER, file_line("a"))
    done = ask("POST", f"/api/models/{repo}/commit/main?hot_reload=1", body).json
    assert done == {
        "success": True,
        "commitOid": done["commitOid"],
        "commitUrl": f"{server.endpoint}/{repo}/commit/{done['commitOid']}",
        "hookOutput": "",
        "pullRequestUrl": None,
    }
    proposed = ask("POST", f"/api/models/{repo}/commit/main?create_pr=1", ndjson(HEADER, file_line("b"))).json
    assert proposed["pullRequestUrl"].endswith("/discussions/1")


def test_text_content_without_base64(ask, repo: str):
    line = {"key": "file", "value": {"path": "a.txt", "content": "grüße"}}
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, line)).status == 200
    assert ask("GET", f"/{repo}/resolve/main/a.txt").body == "grüße".encode()


def test_a_branch_removed_during_an_upload_is_revision_not_found(ask, api: HfApi, server: Server, repo: str):
    api.create_branch(repo, branch="gone")
    body = ndjson(HEADER, file_line("a"))
    hub_repo = server.hub.repo(*repo.split("/"))
    with ThreadPoolExecutor(1) as pool, hub_repo.lock():
        waiting = pool.submit(ask, "POST", f"/api/models/{repo}/commit/gone", body)
        while not (server.requests and server.requests[-1].received == len(body)):
            time.sleep(0.01)
        with hub_repo.git() as git:
            git.delete_reference(b"refs/heads/gone")
    assert waiting.result().headers["X-Error-Code"] == "RevisionNotFound"
