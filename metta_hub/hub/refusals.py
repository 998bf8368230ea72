"""What huggingface_hub raises, turned into our errors: a sentence that names the repo, and the next step."""

import enum
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from huggingface_hub import errors as hf

from metta_hub.errors import (
    ConflictError,
    HubAccessError,
    HubError,
    HubUnreachableError,
    MettaHubError,
    NotAHubError,
    NotFoundError,
    OfflineError,
    ParentMovedError,
    RateLimitError,
)
from metta_hub.hub.tokens import NO_TOKEN, TokenSource

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, MOVED, TOO_MANY = 400, 401, 403, 404, 409, 412, 429
SERVER_FAILED = 500
AGAIN = "run the same command again, nothing is sent twice"
_FORBIDDING = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

#: What the transport raises when something answers, but not HTTP or not the Hub's; the transport's name changes.
_BABBLE = frozenset({"DecodingError", "TooManyRedirects", "UnsupportedProtocol", "LocalProtocolError", "InvalidURL"})
#: What one thread of the client hears when another one has closed the connection that they share, as it broke.
_CLOSED = "client has been closed"
_ERRNO = re.compile(r"^\[Errno -?[0-9]+\] ")
_QUERY = re.compile(r"\?[^\s'\"]+")
_SECONDS = re.compile(r"(?:^|;)\s*t=([0-9]{1,6})\b|^([0-9]{1,6})$")


class Published(enum.Enum):
    """What an error means for a publication."""

    NO_MATTER = ""
    NOT_YET = "; nothing was published"
    MAYBE = "; whether it was published is not known"


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of the Hub, as far as an error has to name it.

    Attributes:
        repo_id: the repo; "" when it is about none.
        revision: as the user or an earlier answer named it.
        endpoint: the Hub.
        token: where the token came from.
        published: what it means for a publication when there is no good answer.
        path: the file in the repo; "" when it is about none.
        local: whether the caller wants what the cache holds, and nothing else.
    """

    repo_id: str
    revision: str | None
    endpoint: str
    token: TokenSource
    published: Published
    path: str = ""
    local: bool = False

    @property
    def unanswered(self) -> str:
        """What it means for a publication that no answer came."""
        return self.published.value

    @property
    def refused(self) -> str:
        """What it means for a publication that the Hub refused."""
        return "" if self.published is Published.NO_MATTER else Published.NOT_YET.value

    @property
    def again(self) -> str:
        """The hint to run the same command again."""
        return "run the same command again" if self.published is Published.NO_MATTER else AGAIN

    @property
    def at(self) -> str:
        """`org/name@commit`, with a short commit."""
        revision = str(self.revision or "main")
        return f"{self.repo_id}@{revision[:7] if len(revision) == 40 else revision}"  # noqa: PLR2004 - hex digits


@contextmanager
def explained(question: Question) -> Iterator[None]:
    """Raise our errors instead of huggingface_hub's.

    Raises:
        MettaHubError: the error that `_ANSWERS` has for what was raised.
    """
    try:
        yield
    except MettaHubError:
        raise
    except Exception as error:
        answer = _answer_to(error)
        if answer is None:
            raise
        raise answer(question, error) from error


def online(*, local: bool = False) -> str:
    """The hint to let the Hub be asked, which the environment or (`local`) the caller forbids."""
    if local:
        return "without local_files_only it is fetched from the Hub"
    variables = [name for name in _FORBIDDING if os.environ.get(name)] or _FORBIDDING[:1]
    return f"unset {' and '.join(variables)} and run the same command again"


def forbidding(*, local: bool) -> str:
    """What forbids to ask the Hub, in words."""
    return "local_files_only" if local else _FORBIDDING[0]


def one_line(error: object) -> str:
    """A text of unknown origin on one line of reasonable length, without what signs the links in it."""
    return _ERRNO.sub("", " ".join(without_queries(str(error)).split()))[:500].rstrip(".")


def without_queries(text: str) -> str:
    """A text whose links end before their '?': whoever has a signed one may use it."""
    return _QUERY.sub("", text)


def _gated(asked: Question, _: Exception) -> MettaHubError:
    if asked.token is NO_TOKEN:
        sentence = f"{asked.repo_id} is gated: its files are for those who were granted access, and there is no token."
        hint = f"{asked.token.another}; ask for access at {asked.endpoint}/{asked.repo_id}"
    else:
        sentence = f"{asked.repo_id} is gated, and {asked.token.words} has not been granted access."
        hint = f"ask for access at {asked.endpoint}/{asked.repo_id}, then run the same command again"
    return HubAccessError(asked.repo_id, sentence, token_source=asked.token.words, status=FORBIDDEN, hint=hint)


def _no_revision(asked: Question, _: Exception) -> MettaHubError:
    return NotFoundError(
        str(asked.revision),
        f"{asked.repo_id} has no revision '{asked.revision}'.",
        hint=f"'metta-hub list {asked.repo_id}' shows what is on main",
    )


def _no_repo(asked: Question, _: Exception) -> MettaHubError:
    if asked.token is NO_TOKEN:
        private = "it is private and there is no token"
        hint = f"check the spelling; for a private repo {asked.token.another}"
    else:
        private = f"{asked.token.words} may not see it"
        hint = f"check the spelling; for a private repo make a token that may read it and {asked.token.another}"
    if "/" not in asked.repo_id:
        hint = f"repos are named org/name; one of yours is USER/{asked.repo_id}"
    return NotFoundError(
        asked.repo_id, f"There is no repo {asked.repo_id} at {asked.endpoint}, or {private}.", hint=hint
    )


def _no_entry(asked: Question, _: Exception) -> MettaHubError:
    sentence = f"{asked.at} has no file {asked.path}." if asked.path else f"{asked.at} has no such file."
    return NotFoundError(
        asked.path or asked.repo_id, sentence, hint=f"'metta-hub list {asked.repo_id}' shows what it has"
    )


def _not_here(asked: Question, error: Exception) -> MettaHubError:
    """A file that is neither cached nor to be had: what kept it from being had is the cause."""
    if asked.local:
        return _offline(asked, error)
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else ConnectionError(str(error))
    return (_answer_to(cause) or _unreachable)(asked, cause)


def _offline(asked: Question, _: Exception) -> MettaHubError:
    who = forbidding(local=asked.local)
    if not asked.repo_id:
        sentence = f"The Hub has to be asked, and {who} forbids it."
    elif asked.path:
        sentence = f"{asked.path} of {asked.at} is not in the cache, and {who} forbids to fetch it."
    else:
        sentence = f"The Hub has to be asked about {asked.repo_id}, and {who} forbids it."
    return OfflineError(asked.repo_id, asked.endpoint, sentence, hint=online(local=asked.local))


def _unreachable(asked: Question, error: Exception) -> MettaHubError:
    if _babbled(error):
        return _no_hub(asked, error)
    reason = one_line(error.__cause__ or error) or type(error).__name__
    hint = AGAIN if asked.published is not Published.NO_MATTER else "check HF_ENDPOINT and the network"
    sentence = f"No answer from the Hub at {asked.endpoint} ({reason}){asked.unanswered}."
    return HubUnreachableError(asked.repo_id, asked.endpoint, sentence, hint=hint)


def _babbled(error: Exception) -> bool:
    """Whether something answered that does not speak HTTP."""
    name = type(error).__name__
    return name in _BABBLE or (name == "RemoteProtocolError" and "disconnected" not in str(error))


def _no_hub(asked: Question, error: Exception) -> MettaHubError:
    """Whatever answered, its answer is not one of the Hub's: a login page, a proxy, another server."""
    reason = next((words for kind, words in _LACKS if isinstance(error, kind)), one_line(error))
    sentence = f"What answers at {asked.endpoint} is not a Hub, or a broken one{asked.unanswered} ({reason})."
    hint = "check HF_ENDPOINT, and whether a proxy or a login page stands before the network"
    return NotAHubError(asked.repo_id, asked.endpoint, sentence, hint=hint)


def _upload_failed(asked: Question, error: Exception) -> MettaHubError:
    # The client wraps whatever stopped an upload; the reason is the cause.
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if _CLOSED in str(cause):
        return _unreachable(asked, ConnectionError("the connection broke"))
    answer = _answer_to(cause) or _upload_failed
    if answer is not _upload_failed:
        return answer(asked, cause)
    reason = one_line(cause)
    return HubError(asked.repo_id, f"Uploading to {asked.repo_id} failed{asked.unanswered}: {reason}.", hint=AGAIN)


def _bad_value(asked: Question, error: Exception) -> MettaHubError:
    sentence = f"The Hub did not take it{asked.refused}: {one_line(error)}."
    return HubError(asked.repo_id, sentence, hint="HF_DEBUG=1 shows what was asked of it")


def _refused(asked: Question, error: Exception) -> MettaHubError:
    assert isinstance(error, hf.HfHubHTTPError)  # noqa: S101  (the table says so)
    status = error.response.status_code
    said = one_line(error.server_message or "")
    said = said if said and not said.startswith("<") else error.response.reason_phrase  # a page for people
    if status in {UNAUTHORIZED, FORBIDDEN}:
        return _not_allowed(asked, status, said)
    if status == CONFLICT:
        hint = "run the same command again, or choose another name"
        return ConflictError(asked.repo_id, f"{asked.repo_id}: {said}{asked.refused}.", hint=hint)
    if status == MOVED:
        sentence = f"Somebody else published to {asked.repo_id} meanwhile{asked.refused}."
        return ParentMovedError(asked.repo_id, sentence, status=status, hint=AGAIN)
    if status == TOO_MANY:
        return _too_many(asked, error)
    if status >= SERVER_FAILED:
        sentence = f"The Hub at {asked.endpoint} failed ({status}: {said}){asked.unanswered}."
        return HubError(asked.repo_id, sentence, status=status, hint=f"wait a little and {asked.again}")
    sentence = f"The Hub refused ({status}: {said}){asked.refused}."
    return HubError(asked.repo_id, sentence, status=status, hint="HF_DEBUG=1 shows what was asked of it")


def _too_many(asked: Question, error: hf.HfHubHTTPError) -> MettaHubError:
    headers = error.response.headers
    found = _SECONDS.search(headers.get("retry-after", "")) or _SECONDS.search(headers.get("ratelimit", ""))
    seconds = int(found[1] or found[2]) if found else None
    wait = "in a few minutes" if seconds is None else f"in {seconds} seconds"
    more = f"; a login is allowed more: {asked.token.another}" if asked.token is NO_TOKEN else ""
    return RateLimitError(
        asked.repo_id,
        f"The Hub takes no more requests for now (429){asked.refused}.",
        seconds=seconds,
        hint=f"{wait} {asked.again}{more}",
    )


def _not_allowed(asked: Question, status: int, said: str) -> MettaHubError:
    if status == UNAUTHORIZED and asked.token is NO_TOKEN:
        sentence, hint = f"The Hub wants to know who asks{asked.refused}: {said}.", asked.token.another
    elif status == UNAUTHORIZED:
        sentence = f"The Hub does not accept {asked.token.words}{asked.refused}: {said}."
        hint = f"make a token at {asked.endpoint}/settings/tokens and {asked.token.another}"
    else:
        place = asked.repo_id or "any repo"
        sentence = f"With {asked.token.words} this is not allowed in {place}{asked.refused}: {said}."
        hint = f"make a token with write access at {asked.endpoint}/settings/tokens and {asked.token.another}"
    return HubAccessError(asked.repo_id, sentence, token_source=asked.token.words, status=status, hint=hint)


#: What is wrong with an answer, by the error that it led to.
_LACKS: tuple[tuple[type[Exception], str], ...] = (
    (json.JSONDecodeError, "its answer is not JSON"),
    (hf.FileMetadataError, "a file comes without the Hub's headers"),
    (LookupError, "its answer lacks what a Hub says"),
    (TypeError, "its answer lacks what a Hub says"),
    (AttributeError, "its answer lacks what a Hub says"),
)

_Answer = Callable[[Question, Exception], MettaHubError]

# In the order of asking: a gated repo is also a repo that is not found, and every answer is an HTTP error.
_ANSWERS: tuple[tuple[type[Exception], _Answer], ...] = (
    (hf.GatedRepoError, _gated),
    (hf.RevisionNotFoundError, _no_revision),
    (hf.RepositoryNotFoundError, _no_repo),
    (hf.LocalEntryNotFoundError, _not_here),
    (hf.EntryNotFoundError, _no_entry),
    (hf.BadRequestError, _refused),
    (hf.HfHubHTTPError, _refused),
    (hf.FileMetadataError, _no_hub),
    (hf.HTTPError, _unreachable),
    (hf.OfflineModeIsEnabled, _offline),
    (ConnectionError, _unreachable),
    (TimeoutError, _unreachable),
    # An answer in which what every Hub says is missing, or is something else.
    (LookupError, _no_hub),
    (TypeError, _no_hub),
    (AttributeError, _no_hub),
    (ValueError, _bad_value),
    (RuntimeError, _upload_failed),
)


def _answer_to(error: Exception) -> _Answer | None:
    if isinstance(error, json.JSONDecodeError) or type(error).__name__ in _BABBLE:
        return _no_hub
    return next((answer for kind, answer in _ANSWERS if isinstance(error, kind)), None)
