"""Whether the environment names a Hub that a token may be sent to."""

from urllib.parse import SplitResult, urlsplit

from metta_hub.errors import UsageError
from metta_hub.hub.tokens import TokenSource

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def check_address(endpoint: str) -> SplitResult:
    """The parts of the Hub's address.

    Raises:
        UsageError: it is none.
    """
    hint = "unset HF_ENDPOINT, or set it to a Hub's address, for example https://huggingface.co"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"HF_ENDPOINT is '{endpoint}', which is no http(s) address.", hint=hint)
    return parts


def check_token(token: str | None, source: TokenSource, endpoint: str) -> None:
    """That a token can be sent, and is not sent for anyone to read.

    Raises:
        UsageError: it cannot, or would be.
    """
    parts = check_address(endpoint)
    if token is None:
        return
    if not token.isascii() or not token.isprintable() or " " in token:
        hint = f"make one at {endpoint}/settings/tokens and {source.another}"
        raise UsageError(f"{source.subject} holds characters that no token has.", hint=hint)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        sentence = f"{endpoint} is plain http, and {source.words} would be sent over it for anyone to read."
        raise UsageError(sentence, hint="use https, unset HF_ENDPOINT, or take the token away")
