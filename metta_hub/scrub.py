r"""What must not be published: the heads of home paths are cut, a credential stops everything.

Both are tables of patterns. No pattern has a repetition without an upper bound, so searching a text takes
time in proportion to its length, whatever a stranger put into it.

A home path is one of the clear shapes only: `/home/NAME`, `/Users/NAME`, `C:\Users\NAME`, `/root/` and their
spellings in file URIs, WSL and UNC paths. `https://example.org/home/page` and `agent/home/base` are none:
what stands before such a path is the start of the text, a space or punctuation, never a letter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from metta_hub.errors import SecretError
from metta_hub.strict_json import JSON, join


@dataclass(frozen=True, slots=True)
class Redaction:
    """One place where something was cut.

    Attributes:
        pointer: where in the published values, as an RFC 6901 pointer.
        kind: what was cut, for example "home path".
    """

    pointer: str
    kind: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A shape that is cut: what it is, how it looks, what stands there afterwards."""

    kind: str
    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True, slots=True)
class Secret:
    """A shape that stops a publication: what it is, how it looks."""

    kind: str
    pattern: re.Pattern[str]


# --- home paths -------------------------------------------------------------------------------------------

_SLASH = r"(?:/|%2[Ff])"
_BACK = r"(?:[\\/]{1,4}|%5[Cc]|%2[Ff])"
_NAME = r"(?:(?!%2[Ff]|%5[Cc])[^\s\\/:;,\"'`<>|()\[\]{}&?\#*=!]){1,64}"
# Windows and macOS make accounts of full names: words with single spaces between, if a path goes on behind.
_FULL_NAME = rf"(?:{_NAME}(?:\x20{_NAME}){{1,3}}(?=[\\/])|{_NAME})"
# In front of a path: `file:`, whose host goes too; a one-letter option (`-I/home/...`); or no word at all.
_FILE = rf"(?P<file>[Ff][Ii][Ll][Ee](?::|%3[Aa])(?:{_SLASH}{{2}})?)(?:(?<=//)[\w.-]{{1,64}})?"
_LEAD = rf"(?:{_FILE}|(?P<option>(?<!\S)-[A-Za-z])|(?<![\w.~%/\\-]))"
_MOUNT = rf"(?:{_SLASH}(?:export|var|usr|nfs|mnt|cluster|gpfs|lustre|private|data|scratch|System/Volumes/Data))?"
_DRIVE = rf"(?:{_SLASH}(?:(?:mnt|cygdrive){_SLASH})?[A-Za-z]|{_SLASH}?[A-Za-z](?::|%3[Aa]))"
_PART = r"[^\\/\s\"':<>|]{1,64}"
_SHARE = rf"\\{{2,4}}{_PART}\\{{1,2}}(?:{_PART}\\{{1,2}})?"


def _home(path: str) -> Cut:
    return Cut("home path", re.compile(_LEAD + path), r"\g<file>\g<option>~")


#: What is cut, in this order.
CUTS = (
    _home(rf"(?:\\\\\?\\)?{_DRIVE}{_BACK}(?i:Users){_BACK}{_FULL_NAME}"),
    _home(rf"{_SHARE}(?i:Users|home)\\{{1,2}}{_FULL_NAME}"),
    _home(rf"{_MOUNT}{_SLASH}home{_SLASH}{{1,2}}{_NAME}"),
    _home(rf"{_MOUNT}{_SLASH}Users{_SLASH}{{1,2}}{_FULL_NAME}"),
    _home(rf"{_SLASH}root(?={_SLASH})"),
)

# No text without one of these words holds a home path.
_MAYBE = re.compile(r"home|users|root", re.IGNORECASE)


# --- credentials ------------------------------------------------------------------------------------------


def _secret(kind: str, shape: str) -> Secret:
    return Secret(kind, re.compile(rf"(?<![A-Za-z0-9])(?:{shape})"))


#: What stops a publication: a prefix that the issuer uses for nothing else, and enough characters behind it.
SECRETS = (
    # These stand out wherever they are, glued to a word or behind an escape (`%3Dhf_...`) too.
    Secret("a Hugging Face token", re.compile(r"(?:hf|api_org)_[A-Za-z0-9]{30}")),
    Secret("a GitHub token", re.compile(r"gh[opsur]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22}")),
    Secret("a GitLab token", re.compile(r"glpat-[A-Za-z0-9_-]{20}")),
    _secret("an API key", r"sk-(?:(?:proj|svcacct|admin|ant|or)-[A-Za-z0-9_-]{20}|[A-Za-z0-9]{20})"),
    _secret("an AWS access key", r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _secret("a Slack token", r"xox[abeoprs]-[A-Za-z0-9-]{10}"),
    _secret("a Google API key", r"AIza[A-Za-z0-9_-]{35}"),
    _secret("a private key", r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY"),
    # A placeholder (`$TOKEN`, `<token>`, `{token}`, `***`) is what people write instead of a password.
    Secret(
        "a password in a URL",
        re.compile(r"://[^\s/:@?#\"'<>]{0,256}:(?![$<{%]|\*{1,256}@)[^\s/@?#\"'<>]{1,256}@"),
    ),
    _secret("a bearer token", r"[Bb]earer\s{1,4}(?=[^\s]{0,64}[0-9])[A-Za-z0-9._~+/=-]{20}"),
)


def scrub(values: Mapping[str, JSON], *, at: str = "") -> tuple[dict[str, JSON], tuple[Redaction, ...]]:
    """Make values fit to be published, in keys and values, however deep.

    Args:
        values: strict JSON; not changed.
        at: the pointer of `values` in what they are a part of.

    Returns:
        The values, and what was cut where. A pointer is one into what is returned: a cut key stays cut in it.

    Raises:
        SecretError: something looks like a credential; says where, never what.
    """
    found: list[Redaction] = []
    return _object(values, at, found), tuple(found)


def scrub_text(text: str) -> tuple[str, bool]:
    """Cut the heads of home paths in one text; also whether there was one."""
    if not _MAYBE.search(text):
        return text, False
    cut = text
    for one in CUTS:
        cut = one.pattern.sub(one.replacement, cut)
    return cut, cut != text


def check_text(text: str, where: str) -> None:
    """Refuse a text that holds a credential.

    Args:
        text: a commit message, a tensor's name, a card, ...
        where: what to call it in the error.

    Raises:
        SecretError: it does; the text itself is not in the error.
    """
    for secret in SECRETS:
        if secret.pattern.search(text):
            raise SecretError(where, secret.kind, hint="take it out, and revoke it if it was shared")


def _object(values: Mapping[str, JSON], at: str, found: list[Redaction]) -> dict[str, JSON]:
    clean: dict[str, JSON] = {}
    for key, value in values.items():
        check_text(key, f"a key of {at or '/'}")
        name, cut = scrub_text(key)
        if cut:
            name = _free(name, clean, values)
            found.append(Redaction(join(at, name), "home path"))
        clean[name] = _value(value, join(at, name), found)
    return clean


def _free(name: str, taken: Mapping[str, JSON], others: Mapping[str, JSON]) -> str:
    """A key that differs from all others: two homes may have held the same file."""
    free, count = name, 1
    while free in taken or free in others:
        count += 1
        free = f"{name} ({count})"
    return free


def _value(value: JSON, at: str, found: list[Redaction]) -> JSON:
    if isinstance(value, dict):
        return _object(value, at, found)
    if isinstance(value, list):
        return [_value(item, join(at, place), found) for place, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    check_text(value, at)
    text, cut = scrub_text(value)
    if cut:
        found.append(Redaction(at, "home path"))
    return text
