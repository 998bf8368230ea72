"""Signed links: large files are sent and fetched without a token, so the address itself carries the right."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import urlencode

from metta_hub.localhub.errors import NotAllowedError


def sign(secret: bytes, path: str, fields: Mapping[str, str | int], *, seconds: int) -> str:
    """`path?query`, good for `seconds`; `fields` and the path can't be changed afterwards."""
    values = {
        **{key: str(value) for key, value in fields.items()},
        "expires": str(int(time.time()) + seconds),
    }
    return f"{path}?{urlencode({**values, 'signature': _signature(secret, path, values)})}"


def check(secret: bytes, path: str, query: Mapping[str, str]) -> None:
    """Refuse a link that this Hub didn't make, or made too long ago.

    Raises:
        NotAllowedError: it did not, or did.
    """
    values = {key: value for key, value in query.items() if key != "signature"}
    given = query.get("signature", "").encode("utf-8", "replace")
    if not hmac.compare_digest(_signature(secret, path, values).encode(), given):
        raise NotAllowedError("This link is not one of ours")
    if int(values.get("expires", "0")) < time.time():
        raise NotAllowedError("This link has expired")


def _signature(secret: bytes, path: str, values: Mapping[str, str]) -> str:
    message = "\n".join([path, urlencode(sorted(values.items()))])
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()
