"""Whatever strangers send is answered, and never with 500."""

import json
import string
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localhub.helpers import fsck
from metta_hub.localhub import Server, asgi

PARTS = {"rev": "main", "path...": "a/b", "tag": "v1", "branch": "b", "num": "1", "comment": "0" * 24}
ROUTES = [route for area in asgi._AREAS for route in area.ROUTES]
KEYS = [
    "name", "organization", "type", "visibility", "private", "fromRepo", "toRepo", "gated", "message", "files", "path",
    "size", "sample", "gitIgnore", "paths", "expand", "tag", "startingPoint", "content", "operation", "transfers",
    "objects", "oid", "title", "description", "pullRequest", "comment", "status", "parts", "partNumber", "etag",
]  # fmt: skip
QUERIES = [
    "p", "limit", "cursor", "sort", "direction", "filter", "author", "search", "expand", "expand[]", "full", "blobs",
    "recursive", "type", "status", "diff", "create_pr", "include_prs", "service", "expires", "signature", "repo",
    "gated",
]  # fmt: skip
WORDS = ["", "main", "a", "a/b", "..", "upload", "download", "model", "private", "0", "1", "-1", "true", "closed",
         "0" * 40, "0" * 64, "git-upload-pack", "createdAt", "9" * 30, "é", "\ud800"]  # fmt: skip
SEGMENTS = [
    "api", "models", "org", "fuzzed", "resolve", "main", "tree", "a%2Fb", "..", "%2e%2e", "%ff", "%00", "lfs", "info",
    "refs", "commit", "datasets", "%F0%9F%98%80", "HEAD", "raw",
]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)
LINES = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from(["header", "file", "lfsFile", "deletedFile", "deletedFolder", "copyFile", 7]),
        "value": VALUES
        | st.dictionaries(
            st.sampled_from(["summary", "description", "parentCommit", "content", "path", "encoding", "oid", "size"]),
            SCALARS,
            max_size=5,
        ),
    },
)
QUICK = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def target(server: Server) -> str:
    """A repo that the requests are about; some of them may remove it."""
    return "org/fuzzed"


@QUICK
@given(
    st.sampled_from(ROUTES), BODIES, st.lists(st.tuples(st.sampled_from(QUERIES), st.sampled_from(WORDS)), max_size=3)
)
def test_any_json_and_any_query(ask, server: Server, target: str, route, body, query):
    ask("POST", "/api/repos/create", {"name": "fuzzed", "organization": "org"})
    path = route.path.replace("{ns}", "org").replace("{name}", "fuzzed")
    for part, value in PARTS.items():
        path = path.replace(f"{{{part}}}", value)
    words = urlencode([(key, value.encode("utf-8", "replace")) for key, value in query])
    answer = ask(route.method, f"{path}?{words}", json.dumps(body).encode())
    assert answer.status != 500, (route.method, path, query, body)


@QUICK
@given(st.lists(LINES, max_size=4))
def test_any_commit(ask, server: Server, lines):
    """In a repo of its own: other requests may squash the history of theirs, and what was there is then unreachable."""
    target = "org/committed"
    ask("POST", "/api/repos/create", {"name": "committed", "organization": "org"})
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    answer = ask("POST", f"/api/models/{target}/commit/main", body)
    assert answer.status != 500, lines
    if answer.status == 200:
        assert fsck(server.root / "repos" / target / "git") == []


@QUICK
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]),
    st.lists(
        st.sampled_from(SEGMENTS) | st.text(string.printable, max_size=6).map(lambda text: quote(text, safe="")),
        max_size=8,
    ),
)
def test_any_address(ask, method, segments):
    answer = ask(method, "/" + "/".join(segments))
    assert answer.status != 500, (method, segments)
    assert answer.headers["X-Request-Id"]
