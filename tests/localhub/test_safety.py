"""What strangers may send."""

import json
import logging
import socket

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from localhub.helpers import left_unfinished
from metta_hub.localhub import Server
from metta_hub.localhub.errors import ForeignHostError
from metta_hub.localhub.web import check_host


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:80", "localhost", "LOCALHOST:8080", "[::1]", "[::1]:5", "127.1.2.3:4"]
)
def test_loopback_hosts_are_served(host: str):
    check_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0:80",
     "10.0.0.1", "[::2]", "localhost:80:80", "localhost:", "127.0.0.1@evil", "1", "[::1", "localhost:123456"],
)  # fmt: skip
def test_other_hosts_are_refused(host: str):
    with pytest.raises(ForeignHostError):
        check_host(host)


def test_foreign_host_header_is_421_for_everything(ask, repo: str):
    for path in ("/", "/api/models", f"/{repo}/resolve/main/.gitattributes", "/api/whoami-v2"):
        answer = ask("GET", path, headers={"Host": "evil.example"})
        assert answer.status == 421
        assert "error" in answer.json


def raw(server: Server, data: bytes, *, give_up: bool = False) -> bytes:
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        if give_up:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while block := connection.recv(65536):
            received += block
    return received


def test_a_request_without_host_is_refused(server: Server):
    assert b" 421 " in raw(server, b"GET / HTTP/1.0\r\n\r\n").split(b"\r\n")[0]


def test_an_upload_that_breaks_off_leaves_nothing(server: Server, api: HfApi, repo: str):
    head = api.model_info(repo).sha
    start = (
        f"POST /api/models/{repo}/commit/main HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
    )
    raw(server, start.encode() + b"Content-Length: 1000\r\n\r\n" + b'{"key":"header"', give_up=True)
    assert api.model_info(repo).sha == head
    assert left_unfinished(server.root) == []


def test_bodies_are_bounded(ask, repo: str, server: Server, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "json_body", 1000)
    body = {"content": "x" * 2000}
    assert ask("POST", "/api/validate-yaml", body).status == 413
    chunked = {"Transfer-Encoding": "chunked"}
    text = b"7d0\r\n" + b" " * 2000 + b"\r\n0\r\n\r\n"
    assert ask("POST", "/api/validate-yaml", text, headers=chunked).status == 413


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"[" * 50_000, b"nul", b'"text"'])
def test_bodies_that_are_no_json_object(ask, repo: str, body: bytes):
    for method, path in (
        ("POST", "/api/repos/create"),
        ("POST", "/api/validate-yaml"),
        ("POST", f"/api/models/{repo}/preupload/main"),
        ("POST", f"/api/models/{repo}/tag/main"),
        ("PUT", f"/api/models/{repo}/settings"),
        ("POST", f"/{repo}.git/info/lfs/objects/batch"),
    ):
        answer = ask(method, path, body, headers={"Content-Type": "application/json"})
        assert answer.status == 400, path
        assert answer.json["error"]


@pytest.mark.parametrize("value", [None, 1, [], {}, "\ud800", True])
def test_values_of_other_types(ask, repo: str, value):
    for method, path, key in (
        ("POST", "/api/repos/create", "name"),
        ("POST", "/api/repos/create", "organization"),
        ("POST", "/api/repos/move", "fromRepo"),
        ("POST", f"/api/models/{repo}/tag/main", "tag"),
        ("POST", f"/api/models/{repo}/preupload/main", "files"),
        ("PUT", f"/api/models/{repo}/settings", "visibility"),
        ("PUT", f"/api/models/{repo}/settings", "gated"),
        ("POST", f"/api/models/{repo}/discussions", "title"),
        ("POST", f"/api/models/{repo}/discussions/1/status", "status"),
        ("POST", f"/api/models/{repo}/super-squash/main", "message"),
    ):
        status = ask(method, path, json.dumps({key: value}).encode()).status
        assert status in (200, 400, 404), (path, key, status)


def test_odd_addresses(ask, repo: str):
    for path in (
        "/%ff",
        "/%00",
        f"/{repo}/resolve/%ff/x",
        "//",
        "/a//b",
        f"/api/models/{repo}/tree/%2e%2e",
        "/..%2f..",
    ):
        assert ask("GET", path).status in (400, 404)
    for header in ("Bearer", "Bearer ", "Basic !!", "Basic Og==", "Digest x", "Bearer \xff"):
        assert ask("GET", "/api/models", headers={"Authorization": header}).status == 401


def test_other_methods_are_404(ask, repo: str):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(method, f"/api/models/{repo}").status == 404


def test_tokens_are_never_logged_nor_shown(ask, api: HfApi, server: Server, repo: str, caplog):
    caplog.set_level(logging.DEBUG)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id=repo)
    ask("GET", "/api/models", token="hf_secretsecretsecret")
    texts = [record.getMessage() for record in caplog.records if not record.name.startswith("h")]
    texts += [str(entry) for entry in server.requests]
    assert not [text for text in texts if server.token in text or "hf_secret" in text]
    assert server.token.encode() not in ask("GET", "/").body


def test_an_unforeseen_error_is_500_without_details(ask, server: Server, monkeypatch, caplog):
    monkeypatch.setattr(server.hub, "repos", lambda: 1 / 0)
    answer = ask("GET", "/api/models")
    assert answer.status == 500
    assert b"division" not in answer.body
    assert "division" in caplog.text


def test_pages_escape_what_strangers_wrote(api: HfApi, ask, repo: str):
    api.upload_file(
        path_or_fileobj=b"x", path_in_repo="<img src=x>&.txt", repo_id=repo, commit_message="<script>alert(1)</script>"
    )
    page = ask("GET", f"/{repo}", token=None)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert b"<script" not in page.body
    assert b"<img" not in page.body
    assert b"&lt;script&gt;" in page.body
    assert ask("GET", f"/{repo}/commit/{api.model_info(repo).sha}").status == 200


def test_pages_show_private_repos_to_their_readers_only(api: HfApi, ask, repo: str):
    assert repo.encode() in ask("GET", "/", token=None).body
    api.update_repo_settings(repo, visibility="private")
    assert repo.encode() not in ask("GET", "/", token=None).body
    assert ask("GET", f"/{repo}", token=None).status == 401
    assert repo.encode() in ask("GET", "/").body


def test_the_addresses_that_clients_are_given_are_pages(api: HfApi, other_user: HfApi, ask, repo: str):
    done = other_user.create_commit(
        repo, [CommitOperationAdd("a", b"a")], commit_message="<b>bold", commit_description="<i>why", create_pr=True
    )
    api.comment_discussion(repo, 1, "<script>no</script>")
    api.rename_discussion(repo, 1, "<u>other")
    api.change_discussion_status(repo, 1, "closed")
    page = ask("GET", done.pr_url, token=None)
    assert page.headers["Content-Type"].startswith("text/html")
    for word in (b"&lt;u&gt;other #1", b"&lt;i&gt;why", b"&lt;script&gt;no", b"closed", b"other"):
        assert word in page.body
    assert not [tag for tag in (b"<script", b"<b>bold", b"<i>", b"<u>") if tag in page.body]
    for address in (done.commit_url, f"/{repo}/tree/main", f"/{repo}/commit/{done.oid}"):
        assert ask("GET", address, token=None).headers["Content-Type"].startswith("text/html")
    assert ask("GET", f"/{repo}/discussions/7").status == 404
