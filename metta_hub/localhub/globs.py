"""Patterns of `.gitignore` and `.gitattributes`, matched in bounded time whatever a stranger wrote."""

import re
from fnmatch import translate

_MAX_PATTERN = 512
_CLASSES = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:space:]": " \t",
    "[:upper:]": "A-Z",
    "[:xdigit:]": "0-9A-Fa-f",
}
_ESCAPED = re.compile(r"\\(.)")


class GitPattern:
    """One pattern.

    Args:
        text: the pattern, without what follows it on its line. One with a slash before its end starts at the folder
            of its file; any other is about names at any depth. `**` stands for any number of folders.
    """

    def __init__(self, text: str) -> None:
        self._folders_only = text.endswith("/")
        body = text.removesuffix("/")
        segments = body.removeprefix("/").split("/") if len(body) <= _MAX_PATTERN else []
        if segments and "/" not in body:
            segments = ["**", *segments]
        if segments and segments[-1] == "**":
            segments.append("*")  # `a/**` is about what is in `a`, not about `a`
        self._segments = [None if segment == "**" else _compile(segment) for segment in segments]

    def fits(self, path: str, *, is_folder: bool = False) -> bool:
        """Whether the pattern is about `path`, relative to the folder of the pattern's file."""
        if (self._folders_only and not is_folder) or not self._segments:
            return False
        return _fits(self._segments, path.split("/"))


def _compile(segment: str) -> re.Pattern[str]:
    """A segment as a regular expression; the standard library's are written so that they don't backtrack."""
    for name, characters in _CLASSES.items():
        segment = segment.replace(name, characters)
    glob = _ESCAPED.sub(lambda found: f"[{found[1]}]", segment).replace("[^", "[!")
    return re.compile(translate(glob))


def _fits(segments: list[re.Pattern[str] | None], names: list[str]) -> bool:
    """Match segment by segment; None stands for `**`. Only the last `**` is ever tried again: that suffices."""
    at = retry_at = retry_name = 0
    name = 0
    seen_stars = False
    while name < len(names):
        pattern = segments[at] if at < len(segments) else None
        if at < len(segments) and pattern is None:
            seen_stars, retry_at, retry_name = True, at + 1, name
            at += 1
        elif pattern is not None and pattern.match(names[name]):
            at += 1
            name += 1
        elif seen_stars:
            retry_name += 1
            at, name = retry_at, retry_name
        else:
            return False
    return all(rest is None for rest in segments[at:])
