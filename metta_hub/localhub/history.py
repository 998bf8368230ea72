"""The past of a revision: its commits, and which of them last touched a file."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from dulwich.objects import Commit, ObjectID

from metta_hub.localhub.gitrepo import GitRepo
from metta_hub.localhub.trees import find

_PERSON = re.compile(r"\s*(.*?)\s*<.*")


def date_text(seconds: float) -> str:
    """A time as the Hub writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(seconds % 1 * 1000):03d}Z"


def commit_date(commit: Commit) -> str:
    """When a commit was made; the epoch for a time that no calendar has."""
    try:
        return date_text(commit.commit_time)
    except (ValueError, OverflowError, OSError):
        return date_text(0)


def title_and_message(commit: Commit) -> tuple[str, str]:
    """The first line, and the rest."""
    title, _, message = commit.message.decode("utf-8", "replace").partition("\n")
    return title, message.strip("\n")


def author_name(commit: Commit) -> str:
    """Who wrote it, without the address."""
    text = commit.author.decode("utf-8", "replace")
    found = _PERSON.match(text)
    return found[1] if found and found[1] else text


def log(git: GitRepo, start: ObjectID, *, skip: int, count: int) -> list[Commit]:
    """Up to `count` commits, newest first."""
    return list(islice(git.commits([start]), skip, skip + count))


def last_commits(git: GitRepo, start: ObjectID, paths: list[str]) -> dict[str, dict[str, Any]]:
    """For every path, the last commit on the first-parent line that changed it."""
    open_paths = set(paths)
    found: dict[str, dict[str, Any]] = {}
    for commit in _first_parents(git, start):
        parent_tree = git.tree(commit.parents[0]) if commit.parents else None
        summary = {
            "id": commit.id.decode(),
            "title": title_and_message(commit)[0],
            "date": commit_date(commit),
        }
        for path in sorted(open_paths):
            before = find(git.objects, parent_tree, path) if parent_tree else None
            if before != find(git.objects, commit.tree, path):
                found[path] = summary
                open_paths.discard(path)
        if not open_paths:
            break
    return found


def _first_parents(git: GitRepo, start: ObjectID) -> Iterator[Commit]:
    commit = git.commit(start)
    yield commit
    while commit.parents:
        commit = git.commit(commit.parents[0])
        yield commit
