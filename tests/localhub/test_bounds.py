"""How much is taken, and in how much memory."""

import base64
import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from huggingface_hub import HfApi

from localhub.helpers import HEADER, Serve, file_line, left_unfinished, ndjson
from metta_hub.localhub import Server

MIB = 1024 * 1024


def peak(process: int) -> float:
    """The most memory that a process ever had, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def test_memory_stays_flat_whatever_the_size_of_a_body(tmp_path: Path, environment):
    """Regular files of 145 MiB in one commit, and a large file of 300 MiB up and down."""
    serve = Serve(tmp_path / "hub", environment)
    serve.start()

    def send(method: str, path: str, body: object = None, **headers: str) -> bytes:
        connection = http.client.HTTPConnection(serve.endpoint.removeprefix("http://"), timeout=120)
        path = path.removeprefix(serve.endpoint)
        connection.request(method, path, body, {"Authorization": f"Bearer {serve.token}", **headers})
        answer = connection.getresponse()
        count, received = 0, b""
        while block := answer.read(MIB):
            count, received = count + len(block), received or block
        connection.close()
        assert answer.status == 200, received
        return received if count <= MIB else b"%d" % count

    def commit(files: int, tag: str) -> None:
        def lines() -> Iterator[bytes]:
            yield ndjson(HEADER)
            for number in range(files):
                content = base64.b64encode(b"%s %d" % (tag.encode(), number) + bytes(9 * MIB)).decode()
                value = {"path": f"{tag}/{number}", "content": content, "encoding": "base64"}
                yield ndjson({"key": "file", "value": value})

        size = sum(map(len, lines()))
        assert size > files * 12 * MIB
        send("POST", "/api/models/org/nav/commit/main", lines(), **{"Content-Length": str(size)})

    def large_file(mib: int) -> None:
        block = bytes(MIB)
        digest = hashlib.sha256()
        for _ in range(mib):
            digest.update(block)
        item = {"oid": digest.hexdigest(), "size": mib * MIB}
        for operation, method in (("upload", "PUT"), ("download", "GET")):
            asked = json.dumps({"operation": operation, "objects": [item]})
            found = json.loads(send("POST", "/org/nav.git/info/lfs/objects/batch", asked))["objects"][0]
            href = found["actions"][operation]["href"]
            if method == "PUT":
                send("PUT", href, (block for _ in range(mib)), **{"Content-Length": str(mib * MIB)})
            else:
                assert send("GET", href) == b"%d" % (mib * MIB)

    try:
        send("POST", "/api/repos/create", json.dumps({"name": "nav", "organization": "org"}))
        commit(2, "few")
        large_file(2)
        before = peak(serve.process.pid)
        large_file(300)
        assert peak(serve.process.pid) - before < 20
        commit(12, "many")
        assert peak(serve.process.pid) - before < 40
    finally:
        serve.kill()


def test_request_heads_are_bounded(server: Server, api: HfApi):
    for path, header in ((f"/{'a' * 1_000_000}", "x"), ("/", "x" * 1_000_000)):
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=10)
        try:
            connection.request("GET", path, headers={"X-Long": header})
            assert connection.getresponse().status in (400, 404, 413, 414, 431)
        except (http.client.HTTPException, OSError):
            pass  # the connection was closed on us
        finally:
            connection.close()
    assert api.whoami()["name"] == "me"


def test_the_longest_path_can_be_fetched(ask, api: HfApi, repo: str):
    """1024 characters that take four bytes each in UTF-8 and twelve in an address."""
    path = "/".join(["\U0001f916" * 60] * 16) + "/" + "x" * 48
    assert len(path) == 1024
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line(path, b"here"))).status == 200
    assert ask("GET", f"/{repo}/resolve/main/{quote(path)}").body == b"here"
    assert path in api.list_repo_files(repo)


@pytest.mark.parametrize("name", ["CON", "aux.txt", "a:b", 'a<b>|?*"', "trailing.", "trailing ", "~", "-rf", "$(x)"])
def test_names_that_only_some_systems_reserve_are_stored(ask, api: HfApi, repo: str, name: str):
    """A repo lies in git objects, not in files of these names: what a client makes of them is its own matter."""
    assert ask("POST", f"/api/models/{repo}/commit/main", ndjson(HEADER, file_line(f"d/{name}"))).status == 200
    assert ask("GET", f"/{repo}/resolve/main/d/{quote(name)}").body == b"x"


def test_names_that_differ_in_case_are_different_files(ask, api: HfApi, repo: str):
    body = ndjson(HEADER, file_line("readme.md", b"1"), file_line("README.MD", b"2"))
    assert ask("POST", f"/api/models/{repo}/commit/main", body).status == 200
    assert ask("GET", f"/{repo}/resolve/main/readme.md").body == b"1"


def test_lists_in_requests_are_bounded(ask, repo: str):
    many = [{"path": "a", "size": 1}] * 1001
    assert ask("POST", f"/api/models/{repo}/preupload/main", {"files": many}).status == 400
    assert ask("POST", f"/api/models/{repo}/paths-info/main", {"paths": ["a"] * 20_001}).status == 400
    objects = [{"oid": "a" * 64, "size": 1}] * 1001
    batch = {"operation": "upload", "objects": objects}
    assert ask("POST", f"/{repo}.git/info/lfs/objects/batch", batch).status == 400
    line = f"{'0' * 40} {'1' * 40} refs/heads/x".encode()
    push = b"".join(b"%04x" % (len(line) + 4) + line for _ in range(1001)) + b"0000"
    headers = {"Content-Type": "application/x-git-receive-pack-request"}
    assert ask("POST", f"/{repo}.git/git-receive-pack", push, headers=headers).status == 400


@pytest.mark.parametrize("value", ["0", "999999999", "9999999999", "-1", "1.5", "x", "٣"])
def test_numbers_in_queries_are_bounded(ask, repo: str, value: str):
    word = quote(value)
    for path in (
        f"/api/models?limit={word}",
        f"/api/models?cursor={word}",
        f"/api/models/{repo}/tree/main?cursor={word}",
        f"/api/models/{repo}/commits/main?p={word}",
        f"/api/models/{repo}/commits/main?limit={word}",
        f"/api/models/{repo}/discussions?p={word}",
    ):
        assert ask("GET", path).status == (200 if value in ("0", "999999999") else 400)


def test_sizes_that_no_object_has(ask, server: Server, repo: str):
    for size in (server.hub.limits.lfs_object + 1, 10**30):
        batch = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": size}]}
        found = ask("POST", f"/{repo}.git/info/lfs/objects/batch", batch).json["objects"][0]
        assert found["error"]["code"] == 422
    body = {"files": [{"path": "a", "size": 10**30}]}
    assert ask("POST", f"/api/models/{repo}/preupload/main", body).json["files"][0]["uploadMode"] == "lfs"


def test_a_body_longer_or_shorter_than_it_says(server: Server, api: HfApi, repo: str):
    head = (
        f"POST /api/models/{repo}/commit/main HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
    )
    body = ndjson(HEADER, file_line("a"))
    for said in (len(body) - 5, len(body) + 5):
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=2)
        try:
            connection.connect()
            connection.sock.sendall(f"{head}Content-Length: {said}\r\n\r\n".encode() + body)
            connection.sock.shutdown(1)
            answer = b""
            while block := connection.sock.recv(65536):
                answer += block
            assert b" 200 " not in answer.split(b"\r\n")[0]
        finally:
            connection.close()
    assert api.list_repo_files(repo) == [".gitattributes"]
    assert left_unfinished(server.root) == []
