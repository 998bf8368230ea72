"""Who am I, and making, moving, changing and removing repos."""

from typing import Any

from starlette.responses import Response

from metta_hub.localhub.calls import Call, text_of
from metta_hub.localhub.errors import BadRequestError, NotServedError, TakenError
from metta_hub.localhub.repo import Gated
from metta_hub.localhub.web import Json, Route


def who_am_i(call: Call) -> Response:
    """The user that a token belongs to, and the namespaces that they may write to."""
    user = call.user()
    namespaces = {repo.namespace for repo in call.hub.repos()} if user.is_first else set()
    namespaces -= set(call.hub.accounts.users)
    email = f"{user.name}@users.noreply.localhost"
    return Json(
        {
            "type": "user",
            "id": user.name,
            "name": user.name,
            "fullname": user.name,
            "email": email,
            "emailVerified": True,
            "isPro": False,
            "canPay": False,
            "orgs": [
                {"type": "org", "name": name, "fullname": name, "roleInOrg": "admin"} for name in sorted(namespaces)
            ],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": f"local {user.role} token", "role": user.role},
            },
        }
    )


def create(call: Call) -> Response:
    """Make a repo."""
    user = call.writer()
    body = call.json()
    _only_models(body)
    name = text_of(body, "name")
    namespace = text_of(body, "organization", "") or user.name
    if "/" in name:
        namespace, _, name = name.partition("/")
    try:
        repo = call.hub.create_repo(user, namespace, name, private=_is_private(body) or False)
    except TakenError as taken:
        taken.extra["url"] = f"{call.endpoint}/{call.hub.repo(namespace, name).id}"
        raise
    return Json({"url": f"{call.endpoint}/{repo.id}", "name": repo.id, "id": repo.key})


def delete(call: Call) -> Response:
    """Remove a repo."""
    user = call.writer()
    body = call.json()
    _only_models(body)
    name = text_of(body, "name")
    namespace = text_of(body, "organization", "") or user.name
    if "/" in name:
        namespace, _, name = name.partition("/")
    call.params.update(ns=namespace, name=name)
    call.hub.delete_repo(call.repo_to_write())
    return Json({})


def move(call: Call) -> Response:
    """Give a repo another id."""
    user = call.writer()
    body = call.json()
    _only_models(body)
    call.params["ns"], _, call.params["name"] = text_of(body, "fromRepo").partition("/")
    namespace, slash, name = text_of(body, "toRepo").partition("/")
    if not slash:
        raise BadRequestError('"toRepo" must be namespace/name')
    repo = call.hub.move_repo(user, call.repo_to_write(), namespace, name)
    return Json({"url": f"{call.endpoint}/{repo.id}"})


def settings(call: Call) -> Response:
    """Change who sees a repo."""
    repo = call.repo_to_write()
    body = call.json()
    gated: Gated | None = body.get("gated")
    if gated not in (None, False, "auto", "manual"):
        raise BadRequestError('"gated" must be "auto", "manual" or false')
    repo.update_settings(private=_is_private(body), gated=gated)
    return Json({"private": repo.settings["private"], "gated": repo.settings["gated"]})


def auth_check(call: Call) -> Response:
    """Whether the caller may read the files."""
    call.repo_for_files()
    return Json({})


def auth_check_write(call: Call) -> Response:
    """Whether the caller may write."""
    call.repo_to_write()
    return Json({})


def _only_models(body: dict[str, Any]) -> None:
    if body.get("type", "model") not in ("model", None):
        raise NotServedError("This Hub has models only: no datasets, spaces or kernels")


def _is_private(body: dict[str, Any]) -> bool | None:
    """What a body says about visibility: in today's words, in those of older clients, or nothing."""
    visibility = body.get("visibility")
    if visibility is None:
        private = body.get("private")
        if private is not None and not isinstance(private, bool):
            raise BadRequestError('"private" must be true or false')
        return private
    if visibility not in ("public", "private"):
        raise BadRequestError('"visibility" must be "public" or "private"')
    return bool(visibility == "private")


ROUTES = (
    Route("GET", "/api/whoami-v2", who_am_i),
    Route("POST", "/api/repos/create", create),
    Route("DELETE", "/api/repos/delete", delete),
    Route("POST", "/api/repos/move", move),
    Route("PUT", "/api/models/{ns}/{name}/settings", settings),
    Route("GET", "/api/models/{ns}/{name}/auth-check", auth_check),
    Route("GET", "/api/models/{ns}/{name}/auth-check/write", auth_check_write),
)
