"""Branches, tags and history."""

from typing import Any

from dulwich.objects import Commit
from dulwich.refs import Ref
from starlette.responses import Response

from metta_hub.localhub.calls import Call, in_url, text_of
from metta_hub.localhub.errors import BadRequestError, NotAllowedError, RevisionNotFoundError
from metta_hub.localhub.gitrepo import HEADS, MAIN, PULLS, TAGS
from metta_hub.localhub.history import author_name, commit_date, log, title_and_message
from metta_hub.localhub.names import DEFAULT_BRANCH, check_ref_name
from metta_hub.localhub.web import Json, Route


def refs(call: Call) -> Response:
    """All branches and tags, and the pull requests if asked for."""
    repo = call.repo()
    found: dict[str, Any] = {"converts": []}
    kinds = {"branches": HEADS, "tags": TAGS}
    if call.flag("include_prs") or call.flag("include_pull_requests"):
        kinds["pullRequests"] = PULLS
    with repo.git() as git:
        for kind, prefix in kinds.items():
            found[kind] = [
                {"name": name, "ref": prefix + name, "targetCommit": sha.decode()}
                for name, sha in git.references(prefix).items()
            ]
    for pull_request in found.get("pullRequests", ()):
        pull_request["name"] = pull_request["ref"]
    return Json(found)


def commits(call: Call) -> Response:
    """The history of a revision, newest first, page by page."""
    repo = call.repo()
    page, most = call.number("p", 0), call.hub.limits.detailed_page
    size = min(call.number("limit", most) or most, most)
    with repo.git() as git:
        start = git.resolve(call.params["rev"])
        found = log(git, start, skip=page * size, count=size + 1)
    formatted = "formatted" in call.queries("expand")
    address = f"/api/models/{repo.id}/commits/{in_url(start.decode())}"
    headers = call.next_page(address, p=page + 1) if len(found) > size else {}
    return Json([_describe(commit, formatted=formatted) for commit in found[:size]], headers=headers)


def _describe(commit: Commit, *, formatted: bool) -> dict[str, Any]:
    title, message = title_and_message(commit)
    described: dict[str, Any] = {
        "id": commit.id.decode(),
        "title": title,
        "message": message,
        "date": commit_date(commit),
        "authors": [{"user": author_name(commit)}],
    }
    if formatted:
        described["formatted"] = {"title": title, "message": message}
    return described


def tag(call: Call) -> Response:
    """Name a commit; with a message it becomes an annotated tag."""
    repo, user = call.repo_to_write(), call.writer()
    body = call.json()
    name = text_of(body, "tag")
    reference = check_ref_name("tags", name)
    message = text_of(body, "message", "")
    with repo.git_to_write() as git, repo.lock():
        sha = git.resolve(call.params["rev"])
        if git.reference(reference.decode()) is None and message:
            sha = git.write_tag(name, sha, author=user.name, message=message)
        git.create_reference(reference, sha)
    return Json({})


def untag(call: Call) -> Response:
    """Remove a tag."""
    repo = call.repo_to_write()
    name = f"{TAGS}{call.params['tag']}"
    with repo.git() as git, repo.lock():
        if git.reference(name) is None:
            raise RevisionNotFoundError(f"Invalid rev id: {name}")
        git.delete_reference(Ref(name.encode()))
    return Json({})


def branch(call: Call) -> Response:
    """Start a branch at a revision, by default at the head of `main`."""
    repo = call.repo_to_write()
    reference = check_ref_name("heads", call.params["branch"])
    start = text_of(call.json(), "startingPoint", DEFAULT_BRANCH)
    with repo.git() as git, repo.lock():
        git.create_reference(reference, git.resolve(start))
    return Json({})


def unbranch(call: Call) -> Response:
    """Remove a branch, but never `main`."""
    repo = call.repo_to_write()
    name = f"{HEADS}{call.params['branch']}"
    if name.encode() == MAIN:
        raise NotAllowedError(f"Cannot delete {name}")
    with repo.git() as git, repo.lock():
        if git.reference(name) is None:
            raise RevisionNotFoundError(f"Invalid rev id: {name}")
        git.delete_reference(Ref(name.encode()))
    return Json({})


def super_squash(call: Call) -> Response:
    """Replace a branch's history by one commit with the same files."""
    repo, user = call.repo_to_write(), call.writer()
    message = text_of(call.json(), "message", "Super-squash")
    if not message.strip():
        raise BadRequestError('"message" is empty')
    name = f"{HEADS}{call.params['rev']}"
    with repo.git_to_write() as git, repo.lock():
        head = git.reference(name)
        if head is None:
            raise RevisionNotFoundError(f"Invalid rev id: {call.params['rev']}")
        sha = git.write_commit(git.tree(head), [], author=user.name, message=message)
        git.move_reference(Ref(name.encode()), head, sha)
    return Json({})


_REPO = "/api/models/{ns}/{name}"

ROUTES = (
    Route("GET", f"{_REPO}/refs", refs),
    Route("GET", f"{_REPO}/commits/{{rev}}", commits),
    Route("POST", f"{_REPO}/tag/{{rev}}", tag),
    Route("DELETE", f"{_REPO}/tag/{{tag}}", untag),
    Route("POST", f"{_REPO}/branch/{{branch}}", branch),
    Route("DELETE", f"{_REPO}/branch/{{branch}}", unbranch),
    Route("POST", f"{_REPO}/super-squash/{{rev}}", super_squash),
)
