"""Whether a Hub accepts a card, and what it says if not, as an error that a person can read."""

import difflib
import re
from collections.abc import Mapping, Sequence

from huggingface_hub.utils import get_session, hf_raise_for_status

from metta_hub.errors import HubError
from metta_hub.hub.refusals import BAD_REQUEST, one_line

# The Hub lists every licence that it knows, over a hundred.
_KNOWN = re.compile(r'"license" must be one of \[([^\]]*)\]')
_NAMED = re.compile(r"^license: *['\"]?([^'\"\n]*)", re.MULTILINE)


def check(card: str, endpoint: str, headers: Mapping[str, str]) -> None:
    """Have the Hub check a card's metadata.

    Raises:
        HubError: it does not accept them; says why.
    """
    body = {"content": card, "repoType": "model"}
    answer = get_session().post(f"{endpoint}/api/validate-yaml", json=body, headers=dict(headers))
    errors = answer.json().get("errors", []) if answer.status_code == BAD_REQUEST else []
    if errors:
        raise _not_accepted(card, [str(error.get("message", error)) for error in errors])
    hf_raise_for_status(answer)


def _not_accepted(card: str, said: Sequence[str]) -> HubError:
    known = next((found[1].split(", ") for text in said if (found := _KNOWN.search(text))), None)
    named = _NAMED.search(card)
    if known is None or named is None:
        shown = "; ".join(map(one_line, said))
        sentence = f"The Hub does not accept the card's metadata; nothing was published: {shown}."
        return HubError("", sentence, hint="'metta-hub card PATH' shows the card")
    near = difflib.get_close_matches(named[1].lower(), known, n=3, cutoff=0.5) or ["mit", "apache-2.0", "other"]
    sentence = f"The Hub knows no licence '{named[1]}'; nothing was published."
    return HubError("", sentence, hint=f"--license takes one of its {len(known)} ids, such as {', '.join(near)}")
