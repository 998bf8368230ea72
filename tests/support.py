"""Where the real checkpoints are, and what tests ask of them."""

import json
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

DATA = Path(__file__).parent / "data"
#: The folder that CI and developers have beside the project; users don't.
SHARED = Path(__file__).parents[2] / "shared" / "fixtures"

#: Since 2.2 ModelCard.validate, and so push_to_hub, asks the Hub that HF_ENDPOINT names; earlier ones ask the real one.
CARDS_ARE_VALIDATED_HERE = Version(version("huggingface_hub")) >= Version("2.2")


def pairs():
    """Every pair at hand, as (id, path of the .pt): those of tests/data, and those of the shared folder."""
    found = sorted(DATA.rglob("*.pt"))
    if SHARED.is_dir():
        found += sorted(SHARED.rglob("*.pt"))
    return [path for path in found if path.with_suffix(".json").is_file()]


def values_of(path):
    """A pair's JSON as values; bare NaN, which Metta writes, is None."""
    return json.loads(Path(path).read_text(), parse_constant=lambda _: None)
