"""Discussions and pull requests over HTTP."""

from collections.abc import Callable, Iterator
from typing import Any

from dulwich.objects import ObjectID
from dulwich.refs import Ref
from starlette.responses import Response

from metta_hub.localhub.accounts import Caller
from metta_hub.localhub.calls import Call, text_of
from metta_hub.localhub.discussions import OPEN_STATES, Discussions, comment, event
from metta_hub.localhub.errors import BadRequestError, NotAllowedError, NotServedError, TakenError
from metta_hub.localhub.gitrepo import MAIN, PULLS, GitRepo
from metta_hub.localhub.history import author_name, commit_date, title_and_message
from metta_hub.localhub.merging import compare, diff_text, merged_tree
from metta_hub.localhub.pulls import open_pull_request
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.web import Json, Route


def create(call: Call) -> Response:
    """Start a discussion, or a pull request that holds nothing new yet."""
    repo, user = call.repo(), call.writer()
    body = call.json()
    title, description = text_of(body, "title"), text_of(body, "description", "")
    is_pull_request = body.get("pullRequest") is True
    with repo.git() as git, repo.lock():
        item = Discussions(repo).draft(
            title=title,
            description=description,
            author=user.name,
            status="draft" if is_pull_request else "open",
            base=MAIN.decode() if is_pull_request else None,
        )
        if is_pull_request:
            open_pull_request(repo, git, item, git.resolve(MAIN.decode()))
        else:
            Discussions(repo).save(item)
    return Json({"num": item["num"], "pullRequest": is_pull_request})


def list_all(call: Call) -> Response:
    """The discussions that fit the query, newest first, page by page."""
    repo = call.repo()
    found = [item for item in reversed(Discussions(repo).all()) if _fits(call, item)]
    size = call.hub.limits.detailed_page
    start = call.number("p", 0) * size
    page = [_short(repo, item) for item in found[start : start + size]]
    return Json({"count": len(found), "start": start, "discussions": page})


def _fits(call: Call, item: dict[str, Any]) -> bool:
    kind = call.query("type", "all")
    status = call.query("status", "all")
    wanted_states = {"all": None, "open": OPEN_STATES, "closed": ("closed", "merged")}.get(status, (status,))
    return (
        (kind == "all" or item["isPullRequest"] == (kind == "pull_request"))
        and (wanted_states is None or item["status"] in wanted_states)
        and call.query("author") in ("", item["author"]["name"])
    )


def _short(repo: Repo, item: dict[str, Any]) -> dict[str, Any]:
    keys = ("num", "title", "status", "author", "isPullRequest", "createdAt")
    return {**{key: item[key] for key in keys}, "repo": {"name": repo.id, "type": "model"}}


def details(call: Call) -> Response:
    """One discussion with all that happened in it; for a pull request, also what it changes."""
    repo = call.repo()
    item = Discussions(repo).get(call.params["num"])
    described = {**_short(repo, item), "events": item["events"], "filesWithConflicts": []}
    if item["isPullRequest"]:
        described["changes"] = {"base": item["base"]}
        if "mergeCommit" in item:
            described["changes"]["mergeCommitId"] = item["mergeCommit"]
        with repo.git() as git:
            head, branch = git.reference(f"{PULLS}{item['num']}"), _compared_with(git, item)
            if head and branch:
                described["events"] = sorted(
                    [*item["events"], *_commit_events(git, branch, head)], key=lambda made: str(made["createdAt"])
                )
                comparison = compare(git, branch, head)
                if item["status"] in OPEN_STATES:
                    described["filesWithConflicts"] = comparison.conflicts
                if call.flag("diff"):
                    described["diff"] = diff_text(git, comparison.base, head)
    return Json(described)


def _commit_events(git: GitRepo, branch: ObjectID, head: ObjectID) -> Iterator[dict[str, Any]]:
    """The commits of a pull request, however they came, as events."""
    for commit in reversed(list(git.commits([head], without=[branch]))):
        yield {
            "id": commit.id.decode(),
            "type": "commit",
            "createdAt": commit_date(commit),
            "author": {"name": author_name(commit)},
            "data": {"subject": title_and_message(commit)[0], "oid": commit.id.decode()},
        }


def _compared_with(git: GitRepo, item: dict[str, Any]) -> ObjectID | None:
    """What a pull request is compared with: its branch; for a merged one, the branch as it was before."""
    if "mergeCommit" in item:
        merge = git.commit(ObjectID(item["mergeCommit"].encode()))
        return merge.parents[0] if len(merge.parents) > 1 else merge.id
    return git.reference(item["base"])


def add_comment(call: Call) -> Response:
    """Say something."""
    repo, user = call.repo(), call.writer()
    text = text_of(call.json(), "comment")
    with repo.lock():
        made = comment(user.name, text)
        _append(Discussions(repo), call.params["num"], made)
    return Json({"newMessage": made})


def edit_comment(call: Call) -> Response:
    """Change one's own words; the old ones are kept."""

    def change(data: dict[str, Any], body: dict[str, Any]) -> None:
        data["history"].append(data["latest"])
        data["latest"] = {**data["latest"], "raw": text_of(body, "content")}
        data["edited"] = True

    return _change_comment(call, change)


def hide_comment(call: Call) -> Response:
    """Take back one's own words, for good."""

    def change(data: dict[str, Any], _body: dict[str, Any]) -> None:
        data["history"] = []
        data["latest"] = {**data["latest"], "raw": ""}
        data["hidden"] = True

    return _change_comment(call, change)


def _change_comment(call: Call, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Response:
    repo, user = call.repo(), call.writer()
    body = call.json()
    with repo.lock():
        discussions = Discussions(repo)
        item = discussions.get(call.params["num"])
        for found in item["events"]:
            if found["id"] == call.params["comment"] and found["type"] == "comment":
                _check_may(user, repo, found["author"]["name"])
                change(found["data"], body)
                discussions.save(item)
                return Json({"updatedComment": found})
    raise NotServedError("Comment not found")


def status(call: Call) -> Response:
    """Open or close a discussion."""
    repo, user = call.repo(), call.writer()
    body = call.json()
    wanted = text_of(body, "status")
    if wanted not in ("open", "closed"):
        raise BadRequestError('"status" must be "open" or "closed"')
    with repo.lock():
        discussions = Discussions(repo)
        item = discussions.get(call.params["num"])
        _check_may(user, repo, item["author"]["name"])
        if item["status"] == "merged":
            raise BadRequestError("A merged pull request stays merged")
        made = event("status-change", user.name, {"status": wanted})
        item["status"] = wanted
        item["events"].append(made)
        if text_of(body, "comment", ""):
            item["events"].append(comment(user.name, text_of(body, "comment")))
        discussions.save(item)
    return Json({"newStatus": made})


def title(call: Call) -> Response:
    """Give a discussion another title."""
    repo, user = call.repo(), call.writer()
    wanted = text_of(call.json(), "title")
    with repo.lock():
        discussions = Discussions(repo)
        item = discussions.get(call.params["num"])
        _check_may(user, repo, item["author"]["name"])
        made = event("title-change", user.name, {"from": item["title"], "to": wanted})
        item["title"] = wanted
        item["events"].append(made)
        discussions.save(item)
    return Json({"newTitle": made})


def merge(call: Call) -> Response:
    """Bring a pull request's changes into its branch, as one merge commit."""
    repo, user = call.repo_to_write(), call.writer()
    text = text_of(call.json(), "comment", "")
    with repo.git_to_write() as git, repo.lock():
        discussions = Discussions(repo)
        item = discussions.open_pull_request(call.params["num"])
        base = Ref(item["base"].encode())
        branch, head = git.resolve(base.decode()), git.resolve(f"{PULLS}{item['num']}")
        comparison = compare(git, branch, head)
        if comparison.conflicts:
            raise TakenError(f"Conflicts with {base.decode()} in {', '.join(comparison.conflicts[:10])}")
        sha = branch
        if comparison.base != head:  # else it is in the branch already
            tree = merged_tree(git, branch, comparison)
            message = f"{item['title']} (#{item['num']})"
            sha = git.write_commit(tree, [branch, head], author=user.name, message=message)
            git.move_reference(base, branch, sha)
        item["status"] = "merged"
        item["mergeCommit"] = sha.decode()
        item["events"].append(event("status-change", user.name, {"status": "merged"}))
        if text:
            item["events"].append(comment(user.name, text))
        discussions.save(item)
    return Json({"mergeCommitId": sha.decode()})


def _append(discussions: Discussions, number: str, made: dict[str, Any]) -> None:
    item = discussions.get(number)
    item["events"].append(made)
    discussions.save(item)


def _check_may(user: Caller, repo: Repo, author: str) -> None:
    if author != user.name and not user.owns(repo.namespace):
        raise NotAllowedError("Forbidden: only the author or an owner of the repo may do this")


_ALL = "/api/models/{ns}/{name}/discussions"
_ONE = f"{_ALL}/{{num}}"

ROUTES = (
    Route("POST", _ALL, create),
    Route("GET", _ALL, list_all),
    Route("GET", _ONE, details),
    Route("POST", f"{_ONE}/comment", add_comment),
    Route("POST", f"{_ONE}/comment/{{comment}}/edit", edit_comment),
    Route("POST", f"{_ONE}/comment/{{comment}}/hide", hide_comment),
    Route("POST", f"{_ONE}/status", status),
    Route("POST", f"{_ONE}/title", title),
    Route("POST", f"{_ONE}/merge", merge),
)
