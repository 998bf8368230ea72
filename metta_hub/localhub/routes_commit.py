"""Committing over HTTP: checking a card, asking how to send files, sending the commit."""

from typing import Any

from starlette.responses import PlainTextResponse, Response

from metta_hub.localhub import cards
from metta_hub.localhub.attributes import LargeFiles, UnwantedFiles
from metta_hub.localhub.calls import Call, list_of, text_of
from metta_hub.localhub.changes import read_changes
from metta_hub.localhub.errors import BadRequestError
from metta_hub.localhub.names import check_path
from metta_hub.localhub.publish import check_may_commit, commit_to, propose, target
from metta_hub.localhub.trees import find
from metta_hub.localhub.web import Json, Route

_FILES_PER_PREUPLOAD = 1000


def validate_yaml(call: Call) -> Response:
    """What is wrong with a card, in JSON or, for those who ask, in plain text."""
    errors, warnings = cards.check(text_of(call.json(), "content"))
    status = 400 if errors else 200
    if call.request.headers.get("accept", "").startswith("text/plain"):
        lines = [f"- Error: {text}" for text in errors] + [f"- Warning: {text}" for text in warnings]
        return PlainTextResponse("\n".join(lines), status_code=status)
    return Json(
        {
            "errors": [{"message": text} for text in errors],
            "warnings": [{"message": text} for text in warnings],
        },
        status_code=status,
    )


def preupload(call: Call) -> Response:
    """For each file: as a regular or a large one, wanted or not, and which id it has now."""
    repo, user = call.repo(), call.writer()
    body = call.json()
    files = list_of(body, "files", dict, _FILES_PER_PREUPLOAD)
    with repo.git() as git:
        if not call.flag("create_pr"):
            check_may_commit(user, repo, target(git, call.params["rev"]))
        commit = git.resolve(call.params["rev"])
        ignore = text_of(body, "gitIgnore").encode() if "gitIgnore" in body else None
        if ignore is None:
            ignore = git.read_file(commit, ".gitignore") or b""
        large = LargeFiles(lambda path: git.read_file(commit, path))
        unwanted = UnwantedFiles(ignore)
        root = git.tree(commit)
        answers = []
        for file in files:
            path = check_path(text_of(file, "path"))
            is_large = large.includes(path) or _size(file) > call.hub.limits.regular_file
            answer: dict[str, Any] = {
                "path": path,
                "uploadMode": "lfs" if is_large else "regular",
                "shouldIgnore": unwanted.includes(path),
            }
            entry = find(git.objects, root, path)
            if entry is not None and not entry.is_folder:
                answer["oid"] = repo.file_id(entry.sha, git.blob(entry.sha))
            answers.append(answer)
    return Json({"files": answers})


def _size(file: dict[str, Any]) -> int:
    size = file.get("size", 0)
    if not isinstance(size, int) or size < 0:
        raise BadRequestError('"size" must be a number')
    return size


def commit(call: Call) -> Response:
    """Take a commit: to a branch, to a pull request, or as a new pull request."""
    repo, user = call.repo(), call.writer()
    with repo.git_to_write() as git:
        reference = target(git, call.params["rev"])
        proposes = call.flag("create_pr")
        if not proposes:
            check_may_commit(user, repo, reference)
        with call.spooled(call.hub.limits.commit_body) as body:
            changes = read_changes(body, repo, git, call.hub.limits)
        publish = propose if proposes else commit_to
        published = publish(repo, git, reference, changes, user.name)
    url = f"{call.endpoint}/{repo.id}"
    number = published.pull_request
    return Json(
        {
            "success": True,
            "commitOid": published.sha,
            "commitUrl": f"{url}/commit/{published.sha}",
            "hookOutput": "",
            "pullRequestUrl": f"{url}/discussions/{number}" if number else None,
        }
    )


ROUTES = (
    Route("POST", "/api/validate-yaml", validate_yaml),
    Route("POST", "/api/models/{ns}/{name}/preupload/{rev}", preupload),
    Route("POST", "/api/models/{ns}/{name}/commit/{rev}", commit),
)
