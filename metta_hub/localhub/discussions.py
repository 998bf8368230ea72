"""Discussions and pull requests of one repo, in one file beside it."""

import secrets
import time
from typing import Any

from metta_hub.localhub.disk import read_json
from metta_hub.localhub.errors import BadRequestError, NotServedError
from metta_hub.localhub.history import date_text
from metta_hub.localhub.repo import Repo

OPEN_STATES = ("draft", "open")


class Discussions:
    """The discussions of one repo. Hold the repo's lock for everything but reading.

    Args:
        repo: the repo.
    """

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._path = repo.folder / "discussions.json"

    def all(self) -> list[dict[str, Any]]:
        """Every discussion, oldest first."""
        try:
            found: list[dict[str, Any]] = read_json(self._path)
        except FileNotFoundError:
            return []
        return found

    def get(self, number: str) -> dict[str, Any]:
        """One discussion.

        Raises:
            NotServedError: there is none of this number.
        """
        for item in self.all():
            if str(item["num"]) == number:
                return item
        raise NotServedError(f"Discussion {number[:20]} not found")

    def open_pull_request(self, number: str) -> dict[str, Any]:
        """A pull request that can still be changed.

        Raises:
            NotServedError: there is none of this number.
            BadRequestError: it is a discussion, closed or merged.
        """
        item = self.get(number)
        if not item["isPullRequest"] or item["status"] not in OPEN_STATES:
            raise BadRequestError(f"{number} is not an open pull request")
        return item

    def draft(
        self, *, title: str, description: str, author: str, status: str = "open", base: str | None = None
    ) -> dict[str, Any]:
        """A new discussion, or a pull request against the branch reference `base`; it exists once it is saved."""
        return {
            "num": len(self.all()) + 1,
            "title": title,
            "status": status,
            "author": {"name": author},
            "isPullRequest": base is not None,
            "createdAt": date_text(time.time()),
            "base": base,
            "events": [comment(author, description)] if description else [],
        }

    def save(self, item: dict[str, Any]) -> None:
        """Write one discussion, new or changed."""
        items = {known["num"]: known for known in self.all()} | {item["num"]: item}
        self._repo.scratch.write_json(self._path, list(items.values()))


def event(kind: str, author: str, data: dict[str, Any]) -> dict[str, Any]:
    """Something that happened in a discussion."""
    return {
        "id": secrets.token_hex(12),
        "type": kind,
        "createdAt": date_text(time.time()),
        "author": {"name": author},
        "data": data,
    }


def comment(author: str, text: str) -> dict[str, Any]:
    """A comment, as an event. `html` stays empty: this Hub renders no Markdown."""
    latest = {"raw": text, "html": "", "updatedAt": date_text(time.time()), "author": {"name": author}}
    return event("comment", author, {"edited": False, "hidden": False, "latest": latest, "history": []})
