"""What huggingface_hub raises, turned into our errors: a sentence that names the repo, and the next step."""

import enum
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
    NotFoundError,
    ParentMovedError,
)

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, MOVED, SERVER_FAILED = 400, 401, 403, 404, 409, 412, 500


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
        token_source: where the token came from, in words.
        published: what it means for a publication when there is no good answer.
    """

    repo_id: str
    revision: str | None
    endpoint: str
    token_source: str
    published: Published

    @property
    def unanswered(self) -> str:
        """What it means for a publication that no answer came."""
        return self.published.value

    @property
    def refused(self) -> str:
        """What it means for a publication that the Hub refused."""
        return "" if self.published is Published.NO_MATTER else Published.NOT_YET.value


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
        for kind, answer in _ANSWERS:
            if isinstance(error, kind):
                raise answer(question, error) from error
        raise


def one_line(error: object) -> str:
    """A text of unknown origin on one line of reasonable length."""
    return " ".join(str(error).split())[:500]


def _gated(asked: Question, _: Exception) -> MettaHubError:
    return HubAccessError(
        asked.repo_id,
        f"{asked.repo_id} is gated, and {asked.token_source} has not been granted access.",
        token_source=asked.token_source,
        hint=f"ask for access at {asked.endpoint}/{asked.repo_id}",
    )


def _no_revision(asked: Question, _: Exception) -> MettaHubError:
    return NotFoundError(
        str(asked.revision),
        f"{asked.repo_id} has no revision '{asked.revision}'.",
        hint=f"metta-hub list {asked.repo_id} shows what is on main",
    )


def _no_repo(asked: Question, _: Exception) -> MettaHubError:
    return NotFoundError(
        asked.repo_id,
        f"There is no repo {asked.repo_id} at {asked.endpoint}, or {asked.token_source} may not see it.",
        hint="check the spelling; for a private repo: hf auth login",
    )


def _no_entry(asked: Question, _: Exception) -> MettaHubError:
    return NotFoundError(asked.repo_id, f"{asked.repo_id} has no such file at {asked.revision}.")


def _unreachable(asked: Question, _: Exception) -> MettaHubError:
    again = asked.published is not Published.NO_MATTER
    hint = "run the same command again, nothing is sent twice" if again else "check HF_ENDPOINT and the network"
    sentence = f"No answer from the Hub at {asked.endpoint}{asked.unanswered}."
    return HubUnreachableError(asked.repo_id, asked.endpoint, sentence, hint=hint)


def _upload_failed(asked: Question, error: Exception) -> MettaHubError:
    # The client wraps whatever stopped an upload; the reason is the cause.
    reason = one_line(error.__cause__ or error)
    return HubError(
        asked.repo_id,
        f"Uploading to {asked.repo_id} failed{asked.unanswered}: {reason}",
        hint="run the same command again, nothing is sent twice",
    )


def _bad_value(asked: Question, error: Exception) -> MettaHubError:
    return HubError(asked.repo_id, f"The Hub did not take it{asked.refused}: {one_line(error)}")


def _refused(asked: Question, error: Exception) -> MettaHubError:
    assert isinstance(error, hf.HfHubHTTPError)  # noqa: S101  (the table says so)
    status = error.response.status_code
    said = one_line(error.server_message or error)
    if status in {UNAUTHORIZED, FORBIDDEN}:
        return _not_allowed(asked, status, said)
    if status == CONFLICT:
        return ConflictError(asked.repo_id, f"{asked.repo_id}: {said}")
    if status == MOVED:
        return ParentMovedError(
            asked.repo_id,
            f"Somebody else published to {asked.repo_id} meanwhile{asked.refused}.",
            status=status,
            hint="run the same command again",
        )
    consequence = asked.unanswered if status >= SERVER_FAILED else asked.refused
    return HubError(asked.repo_id, f"The Hub answered {status}{consequence}: {said}", status=status)


def _not_allowed(asked: Question, status: int, said: str) -> MettaHubError:
    if status == UNAUTHORIZED:
        sentence, hint = f"The Hub does not accept {asked.token_source}: {said}", "hf auth login"
    else:
        sentence = f"With {asked.token_source} this is not allowed in {asked.repo_id or 'any repo'}: {said}"
        hint = "use a token with write access (hf auth login), or propose with --create-pr"
    return HubAccessError(asked.repo_id, sentence, token_source=asked.token_source, status=status, hint=hint)


# In the order of asking: a gated repo is also a repo that is not found, and every answer is an HTTP error.
_ANSWERS: tuple[tuple[type[Exception], Callable[[Question, Exception], MettaHubError]], ...] = (
    (hf.GatedRepoError, _gated),
    (hf.RevisionNotFoundError, _no_revision),
    (hf.RepositoryNotFoundError, _no_repo),
    (hf.LocalEntryNotFoundError, _unreachable),
    (hf.EntryNotFoundError, _no_entry),
    (hf.BadRequestError, _refused),
    (hf.HfHubHTTPError, _refused),
    (hf.HTTPError, _unreachable),
    (hf.OfflineModeIsEnabled, _unreachable),
    (ConnectionError, _unreachable),
    (TimeoutError, _unreachable),
    (ValueError, _bad_value),
    (RuntimeError, _upload_failed),
)
