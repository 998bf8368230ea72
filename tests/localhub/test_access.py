"""Who sees what: private repos, gated repos, roles of tokens. Every route is asked, so that no new one is forgotten.

What the client makes of an answer depends on its status and on X-Error-Code (hub-http-api.md section 0).
"""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from metta_hub.localhub import Server, asgi
from metta_hub.localhub.web import Route

#: What stands for the parts of a path that are not the repo's id.
PARTS = {"rev": "main", "path...": ".gitattributes", "tag": "v1", "branch": "b", "num": "1", "comment": "0" * 24}
#: Routes that a signed link opens: the link is the right.
BY_LINK = "/api/lfs/"
ROUTES = [
    route
    for area in asgi._AREAS
    for route in area.ROUTES
    if "{ns}" in route.path and not route.path.startswith(BY_LINK)
]
#: What everybody may do with what they may see; anything else changes something.
READS = ("GET", "paths-info", "git-upload-pack", "lfs/objects/batch")


def address(route: Route, repo: str) -> str:
    namespace, name = repo.split("/")
    path = route.path.replace("{ns}", namespace).replace("{name}", name)
    for part, value in PARTS.items():
        path = path.replace(f"{{{part}}}", value)
    assert "{" not in path
    return path


def changes(route: Route) -> bool:
    return route.method != "GET" and not any(word in route.path for word in READS)


def spelled(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
def secret(server: Server) -> str:
    HfApi(endpoint=server.endpoint, token=server.token).create_repo("org/hidden", private=True)
    return "org/hidden"


def test_all_routes_of_repos_are_among_the_asked():
    assert len(ROUTES) >= 30
    assert {"GET", "POST", "PUT", "DELETE"} == {route.method for route in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=spelled)
@pytest.mark.parametrize("repo", ["org/hidden", "org/there-is-none"])
def test_private_and_missing_repos_are_404_to_users_and_401_to_the_anonymous(
    ask, other_user: HfApi, secret: str, route: Route, repo: str
):
    path = address(route, repo)
    known = ask(route.method, path, b"{}", token=other_user.token)
    assert (known.status, known.headers["X-Error-Code"]) == (404, "RepoNotFound")
    unknown = ask(route.method, path, b"{}", token=None)
    assert (unknown.status, unknown.headers["X-Error-Code"]) == (401, "RepoNotFound")
    assert unknown.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("route", [route for route in ROUTES if changes(route)], ids=spelled)
def test_public_repos_are_changed_by_those_who_may_write(ask, reader: HfApi, repo: str, route: Route):
    path = address(route, repo)
    anonymous = ask(route.method, path, b"{}", token=None)
    assert (anonymous.status, anonymous.headers.get("X-Error-Code")) == (401, None)
    assert ask(route.method, path, b"{}", token=reader.token).status == 403


@pytest.mark.parametrize("route", ROUTES, ids=spelled)
def test_bad_token_is_401_whatever_is_asked(ask, repo: str, route: Route):
    answer = ask(route.method, address(route, repo), b"{}", token="hf_nobodys")
    assert answer.status == 401
    assert "Invalid credentials in Authorization header" in answer.headers["X-Error-Message"]
    assert "X-Error-Code" not in answer.headers


@pytest.mark.parametrize("route", ROUTES, ids=spelled)
def test_every_route_answers_with_a_request_id_and_never_500(ask, repo: str, route: Route):
    for body in (b"", b"{}", b"[]", b"\xff", b'{"files": [{}], "objects": [{}], "transfers": 5, "paths": {}}'):
        answer = ask(route.method, address(route, repo), body)
        assert answer.status != 500
        assert answer.headers["X-Request-Id"]
        if route.path.endswith(("delete", "settings")):
            break


def test_gated_repo_403_to_users_401_to_the_anonymous(ask, api: HfApi, other_user: HfApi, repo: str):
    api.update_repo_settings(repo, gated="auto")
    for path in (f"/api/models/{repo}/auth-check", f"/{repo}/resolve/main/.gitattributes"):
        for token, status in ((other_user.token, 403), (None, 401)):
            answer = ask("GET", path, token=token)
            assert (answer.status, answer.headers["X-Error-Code"]) == (status, "GatedRepo")
    with pytest.raises(GatedRepoError, match="restricted"):
        other_user.snapshot_download(repo)
    # What a gated repo says of itself, everybody may know.
    assert other_user.model_info(repo).gated == "auto"


def test_gated_and_private_is_not_found(api: HfApi, other_user: HfApi, repo: str):
    api.update_repo_settings(repo, gated="auto", visibility="private")
    with pytest.raises(RepositoryNotFoundError) as caught:
        other_user.auth_check(repo)
    assert not isinstance(caught.value, GatedRepoError)


def test_git_of_a_gated_repo_asks_for_a_password(ask, api: HfApi, repo: str):
    api.update_repo_settings(repo, gated="auto")
    answer = ask("GET", f"/{repo}/info/refs?service=git-upload-pack", token=None)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
