"""Looking: one repo, many repos, the files of a revision."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from metta_hub.localhub.calls import Call, in_url
from metta_hub.localhub.errors import BadRequestError, EntryNotFoundError, RefusalError
from metta_hub.localhub.gitrepo import MAIN
from metta_hub.localhub.history import last_commits
from metta_hub.localhub.listing import describe_blobs, describe_entry, describe_repo
from metta_hub.localhub.trees import find, walk
from metta_hub.localhub.web import Json, Route

_MAX_PATHS = 20_000
_SORTS = ("createdAt", "lastModified", "downloads", "likes", "trendingScore")
# What a list leaves out unless asked for.
_FULL_KEYS = ("siblings", "sha", "lastModified", "author", "gated", "disabled")
# What only models have that a Hub runs or measures.
_NOTHING_FITS = ("apps", "inference", "inference_provider", "num_parameters")
_NEVER_LISTED = ("usedStorage", "spaces", "model-index")


def model_info(call: Call) -> Response:
    """All about one repo at one revision."""
    repo = call.repo()
    with repo.git() as git:
        commit = git.resolve(call.params.get("rev", MAIN.decode()))
    described = describe_repo(repo, commit)
    expand = call.queries("expand")
    if expand:
        return Json(_expanded(described, expand))
    if call.flag("blobs"):
        described["siblings"] = describe_blobs(repo, commit)
    if call.flag("securityStatus"):
        described["securityRepoStatus"] = {"scansDone": False, "filesWithIssues": []}
    return Json(described)


def list_models(call: Call) -> Response:
    """The repos that the caller may see and that fit the query, page by page."""
    found = []
    for repo in () if any(call.query(name) for name in _NOTHING_FITS) else call.hub.repos():
        if not repo.can_read(call.caller) or not _fits_id(call, repo.id):
            continue
        try:
            described = describe_repo(repo)
        except RefusalError:  # deleted since the listing
            continue
        if _fits(call, described):
            found.append(described)
    sort = call.query("sort", "lastModified")
    if sort not in _SORTS:
        raise BadRequestError(f"Invalid sort parameter: must be one of {', '.join(_SORTS)}")
    found.sort(key=lambda item: (item.get(sort, 0), item["id"]), reverse=call.query("direction") != "1")
    start = call.number("cursor", 0)
    size = min(call.number("limit", call.hub.limits.page) or 1, call.hub.limits.page)
    headers = call.next_page("/api/models", cursor=start + size) if start + size < len(found) else {}
    return Json([_listed(call, item) for item in found[start : start + size]], headers=headers)


def _fits_id(call: Call, repo_id: str) -> bool:
    author = call.query("author").lower()
    search = call.query("search").lower()
    lowered = repo_id.lower()
    return (not author or lowered.startswith(f"{author}/")) and search in lowered


def _fits(call: Call, described: dict[str, Any]) -> bool:
    wanted = {tag for value in call.queries("filter") for tag in value.split(",")}
    gated = call.query("gated")
    return (
        wanted <= set(described["tags"])
        and call.query("pipeline_tag") in ("", described.get("pipeline_tag"))
        and (not gated or bool(described["gated"]) == call.flag("gated"))
    )


def _listed(call: Call, described: dict[str, Any]) -> dict[str, Any]:
    expand = call.queries("expand")
    if expand:
        return _expanded(described, expand)
    left_out = set(_NEVER_LISTED)
    if not call.flag("full"):
        left_out.update(_FULL_KEYS)
    for key, parameter in (("cardData", "cardData"), ("config", "config")):
        if not call.flag(parameter):
            left_out.add(key)
    return {key: value for key, value in described.items() if key not in left_out}


def _expanded(described: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    return {key: described[key] for key in ("_id", "id", *keys) if key in described}


def tree(call: Call) -> Response:
    """The files of a revision, or of one folder of it, page by page."""
    repo = call.repo_for_files()
    path = call.params.get("path", "").strip("/")
    start, expand = call.number("cursor", 0), call.flag("expand")
    size = call.hub.limits.detailed_page if expand else call.hub.limits.page
    with repo.git() as git:
        commit = git.resolve(call.params["rev"])
        folder = git.entry(commit, path)
        if not folder.is_folder:
            raise EntryNotFoundError(f"{path} is a file, not a folder")
        entries = list(walk(git.objects, folder.sha, path, recursive=call.flag("recursive")))
        page = entries[start : start + size]
        items = [describe_entry(repo, git, entry) for entry in page]
        if expand:
            _add_last_commits(items, last_commits(git, commit, [entry.path for entry in page]))
    headers = {"X-Repo-Commit": commit.decode()}
    if start + size < len(entries):
        # The commit and not the branch: pages of one listing must fit together.
        address = f"/api/models/{repo.id}/tree/{commit.decode()}" + (f"/{in_url(path)}" if path else "")
        headers |= call.next_page(address, cursor=start + size)
    return Json(items, headers=headers)


def paths_info(call: Call) -> Response:
    """The named files and folders of a revision; those that aren't there are left out."""
    repo = call.repo_for_files()
    body = call.json_or_form()
    paths = body.get("paths", [])
    if isinstance(paths, str):
        paths = [paths]
    if not isinstance(paths, list) or len(paths) > _MAX_PATHS or not all(isinstance(p, str) for p in paths):
        raise BadRequestError(f'"paths" must be a list of at most {_MAX_PATHS} strings')
    expand = str(body.get("expand", "")).strip("[]'").lower() == "true"
    with repo.git() as git:
        commit = git.resolve(call.params["rev"])
        root = git.tree(commit)
        entries = [find(git.objects, root, path.strip("/")) for path in dict.fromkeys(paths) if path.strip("/")]
        found = [entry for entry in entries if entry is not None]
        items = [describe_entry(repo, git, entry) for entry in found]
        if expand:
            _add_last_commits(items, last_commits(git, commit, [entry.path for entry in found]))
    return Json(items)


def _add_last_commits(items: list[dict[str, Any]], commits: dict[str, dict[str, Any]]) -> None:
    for item in items:
        item["lastCommit"] = commits.get(item["path"])


def _get(path: str, handler: Callable[[Call], Response]) -> Route:
    return Route("GET", path, handler)


ROUTES = (
    _get("/api/models", list_models),
    _get("/api/models/{ns}/{name}", model_info),
    _get("/api/models/{ns}/{name}/revision/{rev}", model_info),
    _get("/api/models/{ns}/{name}/tree/{rev}", tree),
    _get("/api/models/{ns}/{name}/tree/{rev}/{path...}", tree),
    Route("POST", "/api/models/{ns}/{name}/paths-info/{rev}", paths_info),
)
