"""What a Hub says of a card that it does not accept, as an error that a person can read."""

import difflib
import re
from collections.abc import Sequence

from metta_hub.errors import HubError
from metta_hub.hub.refusals import one_line

# The Hub lists every licence that it knows, over a hundred.
_KNOWN = re.compile(r'"license" must be one of \[([^\]]*)\]')
_NAMED = re.compile(r"^license: *['\"]?([^'\"\n]*)", re.MULTILINE)


def not_accepted(card: str, said: Sequence[str]) -> HubError:
    """The error for a card that the Hub refused.

    Args:
        card: its text.
        said: the Hub's own sentences.
    """
    known = next((found[1].split(", ") for text in said if (found := _KNOWN.search(text))), None)
    named = _NAMED.search(card)
    if known is None or named is None:
        shown = "; ".join(map(one_line, said))
        sentence = f"The Hub does not accept the card's metadata; nothing was published: {shown}."
        return HubError("", sentence, hint="'metta-hub card PATH' shows the card")
    near = difflib.get_close_matches(named[1].lower(), known, n=3, cutoff=0.5) or ["mit", "apache-2.0", "other"]
    sentence = f"The Hub knows no licence '{named[1]}'; nothing was published."
    return HubError("", sentence, hint=f"--license takes one of its {len(known)} ids, such as {', '.join(near)}")
