"""Where a token came from, and how to use another: both in words, for errors. The token itself is in none."""

import os
from dataclasses import dataclass

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # in huggingface_hub's order


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where a token came from.

    Attributes:
        words: as the subject of a sentence.
        another: how to use another one, as the end of a hint.
    """

    words: str
    another: str

    @property
    def subject(self) -> str:
        """The words at the beginning of a sentence."""
        return self.words[:1].upper() + self.words[1:]


NO_TOKEN = TokenSource("no token", "log in with 'hf auth login', or set HF_TOKEN")
_GIVEN = TokenSource("the token given with --token", "give that one with --token, or store it with 'hf auth login'")
_STORED = TokenSource("the stored login", "store that one with 'hf auth login'")


def source_of(token: str | None, *, given: bool) -> TokenSource:
    """Where a token came from.

    Args:
        token: the one that is used; None when there is none.
        given: whether the caller gave it.
    """
    if token is None:
        return NO_TOKEN
    if given:
        return _GIVEN
    for variable in _VARIABLES:
        if os.environ.get(variable):
            words = f"the token in {variable}"
            return TokenSource(words, f"put that one in {variable}, or unset it and use 'hf auth login'")
    return _STORED
