"""Fetching files."""

import io
import json
import os
import struct
import sys
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from metta_hub.localhub import Server

LARGE = os.urandom(100_000)


@pytest.fixture
def filled(api: HfApi, repo: str) -> str:
    api.create_commit(
        repo,
        [
            CommitOperationAdd("a.txt", b"0123456789"),
            CommitOperationAdd("deep/ä ü.json", b"{}"),
            CommitOperationAdd("empty", b""),
            CommitOperationAdd("m.bin", io.BytesIO(LARGE)),
        ],
        commit_message="fill",
    )
    return repo


def test_head_of_a_regular_file(ask, api: HfApi, filled: str):
    answer = ask("HEAD", f"/{filled}/resolve/main/a.txt")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["ETag"] == '"ad471007bd7f5983d273b9584e5629230150fd54"'
    assert answer.headers["X-Repo-Commit"] == api.model_info(filled).sha
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''a.txt"
    assert "X-Linked-Etag" not in answer.headers
    assert "X-Xet-Hash" not in answer.headers


def test_raw_is_what_git_has(ask, api: HfApi, filled: str):
    assert ask("HEAD", f"/{filled}/raw/main/a.txt").headers["Content-Length"] == "10"
    assert ask("GET", f"/{filled}/raw/main/deep/%C3%A4%20%C3%BC.json").body == b"{}"
    pointer = ask("GET", f"/{filled}/raw/main/m.bin")
    assert pointer.body.startswith(b"version https://git-lfs.github.com/spec/v1\noid sha256:")
    assert pointer.headers["ETag"] == f'"{api.get_paths_info(filled, ["m.bin"])[0].blob_id}"'
    assert ask("HEAD", f"/{filled}/raw/main/missing").status == 404


def test_the_revision_head_is_the_main_branch(ask, api: HfApi, filled: str):
    """npm's client asks so for a repo."""
    assert ask("GET", f"/api/models/{filled}/revision/HEAD").json["sha"] == api.model_info(filled).sha
    assert ask("GET", f"/{filled}/resolve/HEAD/a.txt").body == b"0123456789"


def test_head_of_a_large_file(ask, api: HfApi, filled: str):
    answer = ask("HEAD", f"/{filled}/resolve/main/m.bin")
    lfs = api.get_paths_info(filled, ["m.bin"])[0].lfs
    assert answer.headers["ETag"] == answer.headers["X-Linked-Etag"] == f'"{lfs.sha256}"'
    assert answer.headers["X-Linked-Size"] == answer.headers["Content-Length"] == "100000"


def test_etag_is_that_of_the_asked_revision(ask, api: HfApi, filled: str):
    first = api.model_info(filled).sha
    tags = set()
    api.upload_file(path_or_fileobj=io.BytesIO(b"new weights"), path_in_repo="m.bin", repo_id=filled)
    for revision in (first, "main", first[:9]):
        answer = ask("HEAD", f"/{filled}/resolve/{revision}/m.bin")
        tags.add((answer.headers["X-Repo-Commit"] == first, answer.headers["ETag"]))
    assert len(tags) == 2


@pytest.mark.parametrize("path", ["a.txt", "m.bin"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=2-4", slice(2, 5)),
        ("bytes=0-0", slice(0, 1)),
        ("bytes=7-", slice(7, None)),
        ("bytes=-3", slice(-3, None)),
        ("bytes=0-999999", slice(0, None)),
    ],
)
def test_ranges(ask, filled: str, path: str, asked: str, expected: slice):
    whole = b"0123456789" if path == "a.txt" else LARGE
    answer = ask("GET", f"/{filled}/resolve/main/{path}", headers={"Range": asked})
    assert answer.status == 206
    assert answer.body == whole[expected]
    start = len(whole[: expected.indices(len(whole))[0]])
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(answer.body) - 1}/{len(whole)}"


def test_ranges_outside_are_416(ask, filled: str):
    for path, asked, size in (("a.txt", "bytes=10-", 10), ("m.bin", "bytes=5-3", 100_000), ("empty", "bytes=0-", 0)):
        answer = ask("GET", f"/{filled}/resolve/main/{path}", headers={"Range": asked})
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_ranges_nobody_understands_are_ignored(ask, filled: str):
    for asked in ("bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=--1"):
        answer = ask("GET", f"/{filled}/resolve/main/a.txt", headers={"Range": asked})
        assert (answer.status, answer.body) == (200, b"0123456789")


def test_missing_things(api: HfApi, ask, filled: str, tmp_path):
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(filled, "nope.txt", cache_dir=tmp_path)
    assert list(tmp_path.rglob(".no_exist/*/nope.txt"))  # the client remembers, thanks to X-Repo-Commit
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(filled, "a.txt", revision="nope", cache_dir=tmp_path)
    assert api.file_exists(filled, "a.txt")
    assert not api.file_exists(filled, "deep")
    assert not api.revision_exists(filled, "nope")


@pytest.mark.parametrize(
    "path", ["..%2F..%2Frepo.json", "../repo.json", "%2e%2e/%2e%2e/accounts.json", "a.txt%00", "/a.txt", ""]
)
def test_paths_that_lead_elsewhere_find_nothing(ask, filled: str, path: str):
    assert ask("GET", f"/{filled}/resolve/main/{path}").status in (400, 401, 404)


def test_download_of_any_name(api: HfApi, filled: str, tmp_path):
    local = api.hf_hub_download(filled, "deep/ä ü.json", cache_dir=tmp_path)
    assert Path(local).read_bytes() == b"{}"


def test_snapshot_download(api: HfApi, server: Server, filled: str, tmp_path):
    api.create_branch(filled, branch="exp/a")
    folder = Path(api.snapshot_download(filled, revision="exp/a", cache_dir=tmp_path))
    assert folder.name == api.model_info(filled).sha
    assert (folder / "m.bin").read_bytes() == LARGE
    assert (folder / "empty").read_bytes() == b""
    server.requests.clear()
    api.snapshot_download(filled, revision=folder.name, cache_dir=tmp_path)
    assert sum(entry.sent for entry in server.requests if "/resolve/" in entry.path) == 0


def test_interrupted_downloads_go_on_where_they_stopped(api: HfApi, filled: str):
    with HfFileSystem(endpoint=api.endpoint, token=api.token, skip_instance_cache=True).open(
        f"{filled}/m.bin", block_size=10_000
    ) as file:
        file.seek(50_000)
        assert file.read(20) == LARGE[50_000:50_020]


def test_safetensors_metadata(api: HfApi, repo: str):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(16)
    api.create_commit(repo, [CommitOperationAdd("model.safetensors", io.BytesIO(content))], commit_message="x")
    metadata = api.get_safetensors_metadata(repo)
    assert metadata.parameter_count == {"F32": 4}


def test_private_files_need_a_token(api: HfApi, ask, other_user: HfApi, filled: str):
    api.update_repo_settings(filled, visibility="private")
    path = f"/{filled}/resolve/main/a.txt"
    assert ask("GET", path, token=None).status == 401
    assert ask("GET", path, token=other_user.token).status == 404
    for token in (None, other_user.token):
        assert ask("HEAD", path, token=token).headers["X-Error-Code"] == "RepoNotFound"
    assert ask("GET", path).status == 200


def test_a_strangers_html_is_no_page_of_ours(api: HfApi, ask, repo: str):
    api.upload_file(path_or_fileobj=b"<script>alert(1)</script>", path_in_repo="x.html", repo_id=repo)
    answer = ask("GET", f"/{repo}/resolve/main/x.html")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_hf_command_line(run, environment, tmp_path, repo: str):
    hf = str(Path(sys.executable).parent / "hf")
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "w.bin").write_bytes(LARGE)
    (tmp_path / "up" / "notes.txt").write_text("hello")
    assert "me" in run(hf, "auth", "whoami").stdout
    run(hf, "upload", repo, "up", ".")
    run(hf, "download", repo, "--local-dir", "down")
    assert (tmp_path / "down" / "w.bin").read_bytes() == LARGE
    run(hf, "download", repo, "nope.txt", ok=False)
    run(hf, "repos", "create", "org/by-cli", "--private", "--exist-ok")
    run(hf, "repos", "tag", "create", repo, "v1")
