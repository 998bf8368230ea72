"""Large files: batch API, signed links, parts."""

import hashlib
import io
import os
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from localhub.helpers import HEADER, ndjson
from metta_hub.localhub import LocalHub, Server
from metta_hub.localhub.errors import UnprocessableError


def batch(ask, repo: str, data: bytes, operation: str = "upload", **options):
    oid = hashlib.sha256(data).hexdigest()
    body = {"operation": operation, "transfers": ["basic", "multipart"], "objects": [{"oid": oid, "size": len(data)}]}
    return ask("POST", f"/{repo}.git/info/lfs/objects/batch", {**body, "hash_algo": "sha256"}, **options)


def stored(server: Server) -> set[str]:
    return {path.name for path in (server.root / "repos").glob("*/*/lfs/**/*") if path.is_file()}


def test_basic_upload_and_download_by_signed_links(ask, repo: str):
    data = os.urandom(200_000)
    answer = batch(ask, repo, data)
    assert answer.headers["Content-Type"] == "application/vnd.git-lfs+json"
    assert answer.json["transfer"] == "basic"
    actions = answer.json["objects"][0]["actions"]
    assert ask("PUT", actions["upload"]["href"], data, token=None).status == 200
    # git-lfs sends no token along, because the answer says "authenticated": every link carries its own right.
    proof = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    assert answer.json["objects"][0]["authenticated"] is True
    assert ask("POST", actions["verify"]["href"], proof, token=None).status == 200
    assert ask("POST", actions["verify"]["href"], proof).status == 200
    assert "actions" not in batch(ask, repo, data).json["objects"][0]  # stored already
    link = batch(ask, repo, data, "download", token=None).json["objects"][0]["actions"]["download"]["href"]
    assert ask("GET", link, token=None).body == data
    part = ask("GET", link, token=None, headers={"Range": "bytes=5-9"})
    assert (part.status, part.body) == (206, data[5:10])


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: bytes([d[0] ^ 1]) + d[1:]])
def test_other_bytes_than_announced_are_rejected(ask, server: Server, repo: str, change):
    data = os.urandom(100_000)
    before = stored(server)
    link = batch(ask, repo, data).json["objects"][0]["actions"]["upload"]["href"]
    assert ask("PUT", link, change(data), token=None).status in (400, 413)
    assert stored(server) == before
    assert ask("PUT", link, data, token=None).status == 200


def test_links_cannot_be_changed(ask, repo: str, api: HfApi):
    data = b"some bytes"
    link = batch(ask, repo, data).json["objects"][0]["actions"]["upload"]["href"]
    oid = hashlib.sha256(b"other").hexdigest()
    api.create_repo("org/another-lfs", exist_ok=True)
    for wrong in (
        link[:-1] + ("0" if link[-1] != "0" else "1"),
        link.replace(hashlib.sha256(data).hexdigest(), oid),
        link.replace("size=10", "size=99"),
        link.replace(repo, "org/another-lfs"),
        link.replace("/put?", "/part?"),
        link.split("?")[0],
        link + "&expires=99999999999",
    ):
        assert ask("PUT", wrong, data, token=None).status in (403, 404), wrong
    assert ask("GET", link, token=None).status == 404


def test_links_expire(ask, server: Server, repo: str, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "link_seconds", -10)
    link = batch(ask, repo, b"late").json["objects"][0]["actions"]["upload"]["href"]
    assert int(parse_qs(urlsplit(link).query)["expires"][0]) < time.time()
    answer = ask("PUT", link, b"late", token=None)
    assert (answer.status, answer.json["error"]) == (403, "This link has expired")


def test_objects_wait_for_a_commit_as_long_as_somebody_needs_them(ask, api: HfApi, server: Server, repo: str):
    """Asking again how to send an object renews its time: "it is here" is a promise for as long as links are good."""
    objects = [b"asked for again", b"forgotten", b"committed"]
    for data in objects:
        link = batch(ask, repo, data).json["objects"][0]["actions"]["upload"]["href"]
        assert ask("PUT", link, data, token=None).status == 200
    names = [hashlib.sha256(data).hexdigest() for data in objects]
    api.create_commit(repo, [CommitOperationAdd("m.bin", io.BytesIO(objects[2]))], commit_message="x")
    for path in (server.root / "repos" / repo / "lfs").glob("**/*"):
        os.utime(path, (time.time() - server.hub.limits.link_seconds - 1,) * 2)
    assert "actions" not in batch(ask, repo, objects[0]).json["objects"][0]
    LocalHub(server.root)
    assert [name in stored(server) for name in names] == [True, False, True]
    line = {"key": "lfsFile", "value": {"path": "n.bin", "algo": "sha256", "oid": names[1]}}
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, line)).status == 422


def test_an_object_that_went_between_a_commits_check_and_its_lock_refuses_the_commit(server: Server, repo: str):
    lfs = server.hub.repo(*repo.split("/")).lfs
    with pytest.raises(UnprocessableError, match="is not here any more: upload it again"):
        lfs.keep(["0" * 64])


def test_links_die_with_their_repo(ask, api: HfApi, repo: str):
    link = batch(ask, repo, b"data").json["objects"][0]["actions"]["upload"]["href"]
    api.delete_repo(repo)
    assert ask("PUT", link, b"data", token=None).status == 404
    api.create_repo(repo)
    assert ask("PUT", link, b"data", token=None).status == 404


def test_multipart_above_the_threshold(api: HfApi, server: Server, repo: str, monkeypatch, tmp_path):
    monkeypatch.setattr(server.hub.limits, "multipart_threshold", 100_000)
    monkeypatch.setattr(server.hub.limits, "part_size", 64_000)
    data = os.urandom(250_001)
    server.requests.clear()
    api.create_commit(repo, [CommitOperationAdd("m.bin", io.BytesIO(data))], commit_message="x")
    parts = [entry for entry in server.requests if entry.path.endswith("/part")]
    assert [entry.received for entry in parts] == [64_000, 64_000, 64_000, 58_001]
    local = api.hf_hub_download(repo, "m.bin", cache_dir=tmp_path)
    assert Path(local).read_bytes() == data
    assert not [name for name in stored(server) if name.startswith("upload")]


def test_multipart_with_wrong_parts_stores_nothing(ask, server: Server, repo: str, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "multipart_threshold", 10)
    monkeypatch.setattr(server.hub.limits, "part_size", 50)
    data = os.urandom(120)
    before = stored(server)

    def upload(parts: list[bytes], *, etags: list[str] | None = None, numbers=(1, 2, 3)) -> int:
        action = batch(ask, repo, data).json["objects"][0]["actions"]["upload"]
        found = []
        for number, part in enumerate(parts, 1):
            answer = ask("PUT", action["header"][str(number)], part, token=None)
            if answer.status != 200:
                return answer.status
            found.append(answer.headers["ETag"])
        listed = [{"partNumber": n, "etag": e} for n, e in zip(numbers, etags or found, strict=False)]
        body = {"oid": hashlib.sha256(data).hexdigest(), "parts": listed}
        return ask("POST", action["href"], body, token=None).status

    good = [data[:50], data[50:100], data[100:]]
    assert upload([b"x" * 50, *good[1:]]) == 400
    assert upload([good[0][:-1], *good[1:]]) == 400
    assert upload([good[0] + b"x", *good[1:]]) == 413
    assert upload(good[:2], numbers=(1, 2)) == 400
    assert upload(good, etags=["a", "b", "c"]) == 400
    assert upload(good, numbers=(1, 3, 2)) == 400
    assert upload([], etags=[]) == 400
    assert {name for name in stored(server) if not name.startswith("upload")} == before
    assert upload(good) == 200


def test_unknown_objects(ask, repo: str):
    missing = batch(ask, repo, b"never sent", "download").json["objects"][0]
    assert missing["error"]["code"] == 404
    actions = batch(ask, repo, b"never sent").json["objects"][0]["actions"]
    body = {"oid": hashlib.sha256(b"never sent").hexdigest(), "size": 10}
    assert ask("POST", actions["verify"]["href"], body).status == 404


@pytest.mark.parametrize(
    "objects",
    [[{"oid": "../../x", "size": 1}], [{"oid": "A" * 64, "size": 1}], [{"oid": "a" * 64, "size": -1}], [1], "x", None],
)
def test_malformed_batches_are_refused(ask, repo: str, objects):
    body = {"operation": "upload", "objects": objects}
    assert ask("POST", f"/{repo}.git/info/lfs/objects/batch", body).status == 400
    assert ask("POST", f"/{repo}.git/info/lfs/objects/batch", {"operation": "steal", "objects": []}).status == 400


def test_too_large_an_object_is_refused_before_it_is_sent(ask, server: Server, repo: str, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "lfs_object", 3)
    assert batch(ask, repo, b"four").json["objects"][0]["error"]["code"] == 422


def test_uploading_needs_a_write_token_and_private_downloads_one_that_reads(ask, api: HfApi, reader: HfApi, repo: str):
    assert batch(ask, repo, b"x", token=None).status == 401
    assert batch(ask, repo, b"x", token=reader.token).status == 403
    api.update_repo_settings(repo, visibility="private")
    answer = batch(ask, repo, b"x", "download", token=None)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert batch(ask, repo, b"x", "download", token=reader.token).status == 200


def test_objects_of_one_repo_are_not_seen_from_another(ask, api: HfApi, repo: str):
    data = b"private weights"
    link = batch(ask, repo, data).json["objects"][0]["actions"]["upload"]["href"]
    ask("PUT", link, data, token=None)
    api.create_repo("org/neighbour", exist_ok=True)
    assert batch(ask, "org/neighbour", data, "download").json["objects"][0]["error"]["code"] == 404


@pytest.mark.parametrize("transfers", [None, 5, "multipart", [], ["basic"], {"multipart": 1}, [[]]])
def test_transfers_of_any_kind(ask, repo: str, transfers):
    body = {"operation": "upload", "transfers": transfers, "objects": [{"oid": "a" * 64, "size": 1}]}
    assert ask("POST", f"/{repo}.git/info/lfs/objects/batch", body).status == 200


def test_huge_objects_come_in_a_hundred_parts_at_most(ask, server: Server, repo: str):
    size = server.hub.limits.lfs_object
    body = {"operation": "upload", "transfers": ["multipart"], "objects": [{"oid": "a" * 64, "size": size}]}
    header = ask("POST", f"/{repo}.git/info/lfs/objects/batch", body).json["objects"][0]["actions"]["upload"]["header"]
    assert len(header) == 101
    assert 99 * int(header["chunk_size"]) < size <= 100 * int(header["chunk_size"])


def test_locks_and_xet_are_404(ask, repo: str):
    """A client that asks for xet hears that there is none; git-lfs goes on without locks."""
    assert ask("POST", f"/{repo}.git/info/lfs/locks/verify", {}).status == 404
    for path in (f"/api/models/{repo}/xet-write-token/main?create_pr=1", f"/api/models/{repo}/xet-read-token/main"):
        answer = ask("GET", path)
        assert (answer.status, answer.headers.get("X-Error-Code")) == (404, None)


def test_a_completion_asked_for_twice_is_done(ask, server: Server, repo: str, monkeypatch):
    """Its first answer got lost."""
    monkeypatch.setattr(server.hub.limits, "multipart_threshold", 10)
    monkeypatch.setattr(server.hub.limits, "part_size", 50)
    data = os.urandom(70)
    action = batch(ask, repo, data).json["objects"][0]["actions"]["upload"]
    tags = [
        ask("PUT", action["header"][n], part, token=None).headers["ETag"]
        for n, part in (("1", data[:50]), ("2", data[50:]))
    ]
    ask("PUT", action["header"]["1"], data[:50], token=None)  # a part, too
    body = {
        "oid": hashlib.sha256(data).hexdigest(),
        "parts": [{"partNumber": n, "etag": tag} for n, tag in enumerate(tags, 1)],
    }
    for _ in range(2):
        assert ask("POST", action["href"], body, token=None).status == 200


def test_what_killed_uploads_left_goes_when_the_object_is_there(ask, server: Server, repo: str, monkeypatch):
    """Two uploads of one object in parts: one is cut off, the other goes on while the first completes."""
    monkeypatch.setattr(server.hub.limits, "multipart_threshold", 10)
    monkeypatch.setattr(server.hub.limits, "part_size", 50)
    data = os.urandom(70)
    killed, one, other = (batch(ask, repo, data).json["objects"][0]["actions"]["upload"] for _ in range(3))
    parts = {"1": data[:50], "2": data[50:]}

    def send(action, number):
        return ask("PUT", action["header"][number], parts[number], token=None).headers["ETag"]

    def complete(action, tags):
        body = {"oid": hashlib.sha256(data).hexdigest(), "parts": [{"partNumber": 1, "etag": tags[0]}]}
        body["parts"].append({"partNumber": 2, "etag": tags[1]})
        return ask("POST", action["href"], body, token=None).status

    send(killed, "1")
    first = send(other, "1")
    assert complete(one, [send(one, "1"), send(one, "2")]) == 200
    assert not [name for name in stored(server) if name.startswith("upload")]
    second = send(other, "2")
    assert [name for name in stored(server) if name.startswith("upload")]
    assert complete(other, [first, second]) == 200
    assert not [name for name in stored(server) if name.startswith("upload")]
    send(killed, "2")
    assert "actions" not in batch(ask, repo, data).json["objects"][0]  # it is there: nobody needs what was left
    assert not [name for name in stored(server) if name.startswith("upload")]
