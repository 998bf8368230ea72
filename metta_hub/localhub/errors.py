"""Why the embedded Hub refuses a request: a class per reason, each with its HTTP status and the Hub's code.

    RefusalError                 status, code
    ├── BadRequestError          400
    ├── NotLoggedInError         401
    ├── NotAllowedError          403
    ├── GatedRepoError           403  GatedRepo
    ├── NotServedError           404
    ├── RepoNotFoundError        404  RepoNotFound (401 for the anonymous)
    ├── RevisionNotFoundError    404  RevisionNotFound
    ├── EntryNotFoundError       404  EntryNotFound
    ├── TakenError               409
    ├── ParentMovedError         412
    ├── TooLargeError            413
    ├── RangeError               416
    ├── ForeignHostError         421
    ├── UnprocessableError       422
    └── NoSpaceError             507

The official client decides by `X-Error-Code` which exception to raise, so the codes are the Hub's own words.
"""

from collections.abc import Mapping
from typing import ClassVar

from metta_hub.errors import MettaHubError


class RefusalError(MettaHubError):
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status.
        code: what goes into `X-Error-Code`; empty when the Hub sends none.
        headers: further headers of the answer.
        extra: further keys of the JSON body.
    """

    default_status: ClassVar[int] = 400
    default_code: ClassVar[str] = ""

    def __init__(
        self,
        sentence: str,
        *,
        status: int | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = self.default_status if status is None else status
        self.code = self.default_code if code is None else code
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class BadRequestError(RefusalError):
    """The request is malformed."""


class NotLoggedInError(RefusalError):
    """The request needs a valid token."""

    default_status = 401


class NotAllowedError(RefusalError):
    """The token is valid and lacks the right."""

    default_status = 403


class GatedRepoError(RefusalError):
    """The repo's files are for those who were granted access."""

    default_status = 403
    default_code = "GatedRepo"


class NotServedError(RefusalError):
    """This Hub has no such endpoint."""

    default_status = 404


class RepoNotFoundError(RefusalError):
    """No such repo, or none that this caller may see."""

    default_status = 404
    default_code = "RepoNotFound"


class RevisionNotFoundError(RefusalError):
    """No such branch, tag, pull request or commit."""

    default_status = 404
    default_code = "RevisionNotFound"


class EntryNotFoundError(RefusalError):
    """No such file or folder in this revision."""

    default_status = 404
    default_code = "EntryNotFound"


class TakenError(RefusalError):
    """Something of this name is there already."""

    default_status = 409


class ParentMovedError(RefusalError):
    """The branch is not where the client thinks it is."""

    default_status = 412


class TooLargeError(RefusalError):
    """More was sent than this Hub takes."""

    default_status = 413


class RangeError(RefusalError):
    """The asked byte range lies outside the file."""

    default_status = 416


class ForeignHostError(RefusalError):
    """The Host header is not loopback: a page of some other site tries to reach this Hub."""

    default_status = 421


class UnprocessableError(RefusalError):
    """Well-formed, but no path, name or content that can be stored."""

    default_status = 422


class NoSpaceError(RefusalError):
    """The disk that this Hub lies on is full."""

    default_status = 507
