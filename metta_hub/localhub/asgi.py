"""The embedded Hub as an ASGI application: all routes, in the order in which they are tried."""

from metta_hub.localhub import (
    pages,
    routes_commit,
    routes_discussions,
    routes_files,
    routes_git,
    routes_info,
    routes_lfs,
    routes_refs,
    routes_repos,
)
from metta_hub.localhub.store import LocalHub
from metta_hub.localhub.web import Application

_AREAS = (
    routes_repos,
    routes_info,
    routes_refs,
    routes_commit,
    routes_discussions,
    routes_lfs,
    routes_git,
    routes_files,
    pages,
)


def app(hub: LocalHub, *, endpoint: str) -> Application:
    """The Hub's HTTP API over a store.

    Args:
        hub: the store.
        endpoint: the address under which clients reach it, such as `http://127.0.0.1:8080`.
    """
    return Application(hub, endpoint.rstrip("/"), [route for area in _AREAS for route in area.ROUTES])
