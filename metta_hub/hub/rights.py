"""Errors for tokens that lack a right: which token it is, what it may not do, and how to use another."""

from metta_hub.errors import HubAccessError
from metta_hub.hub.nouns import Account
from metta_hub.hub.refusals import FORBIDDEN
from metta_hub.hub.tokens import TokenSource

#: The role of a token that changes nothing.
READ = "read"


def no_token(source: TokenSource) -> HubAccessError:
    """The error for publishing without a token."""
    sentence = "Publishing needs a token, and there is none; nothing was published."
    return HubAccessError("", sentence, token_source=source.words, hint=source.another)


def may_not_write(repo_id: str, account: Account, source: TokenSource, endpoint: str) -> HubAccessError:
    """The error for an existing repo that a token may only read."""
    if account.role == READ:
        sentence = f"{source.subject} (a 'read' token) may read {repo_id} but not write to it; nothing was published."
        hint = f"{_another(source, endpoint)}; or propose with --create-pr"
    else:
        whose = f"{source.subject} is {account.name}'s, who may read {repo_id}"
        sentence = f"{whose}, but with it not write there; nothing was published."
        hint = f"propose with --create-pr; or {_another(source, endpoint)}"
    return HubAccessError(repo_id, sentence, token_source=source.words, status=FORBIDDEN, hint=hint)


def may_not_make(repo_id: str, source: TokenSource, endpoint: str) -> HubAccessError:
    """The error for a repo that is not there and that a token may not make."""
    sentence = (
        f"There is no repo {repo_id}, and {source.words} (a 'read' token) may not make it; nothing was published."
    )
    hint = _another(source, endpoint)
    return HubAccessError(repo_id, sentence, token_source=source.words, status=FORBIDDEN, hint=hint)


def _another(source: TokenSource, endpoint: str) -> str:
    return f"make a token with write access at {endpoint}/settings/tokens and {source.another}"
