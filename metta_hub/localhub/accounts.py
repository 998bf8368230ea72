"""Users and tokens, in one file that only its owner can read."""

import hmac
import re
import secrets
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from metta_hub.errors import ConflictError, NotFoundError, UsageError
from metta_hub.localhub.disk import locked, read_json
from metta_hub.localhub.scratch import Scratch

Role = Literal["read", "write"]

_ALPHABET = string.ascii_letters + string.digits
_USER_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,40}[A-Za-z0-9_])?")


class _Token(TypedDict):
    token: str
    user: str
    role: Role


class _File(TypedDict):
    version: int
    secret: str
    users: list[str]
    tokens: list[_Token]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        name: the user.
        role: what the token may do.
        is_first: the user of the first start, who may write to any namespace.
    """

    name: str
    role: Role
    is_first: bool

    def owns(self, namespace: str) -> bool:
        """Whether repos of `namespace` are this user's to read and write."""
        return self.is_first or self.name.lower() == namespace.lower()


class Accounts:
    """The users and tokens of one Hub; the file is read again whenever another process changed it.

    Args:
        path: where the file is, or shall be.
        scratch: where it is while it is written.
        first_user: the name of the first user; None takes what is there, or `me`.

    Raises:
        ConflictError: the file is there and its first user is another.
    """

    def __init__(self, path: Path, scratch: Scratch, *, first_user: str | None = None) -> None:
        self._path = path
        self._scratch = scratch
        self._lock = path.with_suffix(".lock")
        with locked(self._lock):
            if not path.exists():
                name = _checked(first_user or "me")
                token: _Token = {"token": _new_token(), "user": name, "role": "write"}
                self._write({"version": 1, "secret": secrets.token_hex(32), "users": [name], "tokens": [token]})
        content = self._read()
        self.secret = bytes.fromhex(content["secret"])
        self.first_user = content["users"][0]
        if first_user is not None and first_user != self.first_user:
            raise ConflictError(
                first_user,
                f"This Hub belongs to '{self.first_user}', not to '{first_user}'.",
                hint="start it without a user, or give it another folder",
            )

    @property
    def users(self) -> list[str]:
        """All users, the first one first."""
        return list(self._read()["users"])

    def token_of(self, name: str) -> str:
        """The oldest write token of a user."""
        for entry in self._read()["tokens"]:
            if entry["user"] == name and entry["role"] == "write":
                return entry["token"]
        raise NotFoundError(name, f"User '{name}' has no write token.")

    def add_user(self, name: str) -> str:
        """Add a user, unless there is one of that name; return a write token of theirs."""
        with locked(self._lock):
            content = self._read()
            known = {user.lower(): user for user in content["users"]}
            user = known.get(_checked(name).lower(), name)
            for one in content["tokens"]:
                if one["user"] == user and one["role"] == "write":
                    return one["token"]
            token = _new_token()
            if user not in content["users"]:
                content["users"].append(user)
            content["tokens"].append({"token": token, "user": user, "role": "write"})
            self._write(content)
        return token

    def add_token(self, user: str, *, role: Role = "read") -> str:
        """Add a token for a known user."""
        with locked(self._lock):
            content = self._read()
            if user not in content["users"]:
                raise NotFoundError(user, f"There is no user '{user}'.")
            token = _new_token()
            content["tokens"].append({"token": token, "user": user, "role": role})
            self._write(content)
        return token

    def caller(self, token: str) -> Caller | None:
        """Who a token belongs to; None for a token that nobody has."""
        found: Caller | None = None
        given = token.encode("utf-8", "surrogateescape")
        # Every token is compared, and in constant time, so that the time taken says nothing.
        for entry in self._read()["tokens"]:
            if hmac.compare_digest(entry["token"].encode(), given):
                found = Caller(entry["user"], entry["role"], entry["user"] == self.first_user)
        return found

    def _read(self) -> _File:
        content: _File = read_json(self._path)
        return content

    def _write(self, content: _File) -> None:
        self._scratch.write_json(self._path, content, mode=0o600)


def _checked(name: str) -> str:
    if not _USER_NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be the name of a user.", hint="letters, digits, -, _ and .")
    return name


def _new_token() -> str:
    return "hf_" + "".join(secrets.choice(_ALPHABET) for _ in range(36))
