"""metta_hub: a bridge between Metta's policy checkpoints and the Hugging Face Hub.

The public names are found when they are first used, so that `import metta_hub` costs next to nothing: it loads
neither torch nor huggingface_hub.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from metta_hub._version import __version__

if TYPE_CHECKING:
    from metta_hub.api.diff import diff as diff
    from metta_hub.api.export import export as export
    from metta_hub.api.fits import fits as fits
    from metta_hub.api.from_pretrained import from_pretrained as from_pretrained
    from metta_hub.api.inspect import inspect as inspect
    from metta_hub.api.list import list_checkpoints as list_checkpoints
    from metta_hub.api.migrate import migrate as migrate
    from metta_hub.api.migrate import migrate_all_checkpoints_in_dir as migrate_all_checkpoints_in_dir
    from metta_hub.api.migrate import migrate_checkpoint as migrate_checkpoint
    from metta_hub.api.pull import pull as pull
    from metta_hub.api.push import push as push
    from metta_hub.api.save import save_pretrained as save_pretrained
    from metta_hub.api.scan import scan as scan
    from metta_hub.api.trying import try_policy as try_policy
    from metta_hub.api.verify import verify as verify
    from metta_hub.errors import MettaHubError as MettaHubError
    from metta_hub.policies import create_model_from_metadata as create_model_from_metadata
    from metta_hub.policies import register as register
    from metta_hub.policies.metta_agent import PolicyState as PolicyState
    from metta_hub.store import PolicyMetadata as PolicyMetadata
    from metta_hub.store import PolicyRecord as PolicyRecord
    from metta_hub.store import PolicyStore as PolicyStore

_PLACES = {
    "MettaHubError": "metta_hub.errors",
    "PolicyMetadata": "metta_hub.store",
    "PolicyRecord": "metta_hub.store",
    "PolicyState": "metta_hub.policies.metta_agent",
    "PolicyStore": "metta_hub.store",
    "create_model_from_metadata": "metta_hub.policies",
    "diff": "metta_hub.api.diff",
    "export": "metta_hub.api.export",
    "fits": "metta_hub.api.fits",
    "from_pretrained": "metta_hub.api.from_pretrained",
    "inspect": "metta_hub.api.inspect",
    "list_checkpoints": "metta_hub.api.list",
    "migrate": "metta_hub.api.migrate",
    "migrate_all_checkpoints_in_dir": "metta_hub.api.migrate",
    "migrate_checkpoint": "metta_hub.api.migrate",
    "pull": "metta_hub.api.pull",
    "push": "metta_hub.api.push",
    "register": "metta_hub.policies",
    "save_pretrained": "metta_hub.api.save",
    "scan": "metta_hub.api.scan",
    "try_policy": "metta_hub.api.trying",
    "verify": "metta_hub.api.verify",
}

__all__ = [
    "MettaHubError",
    "PolicyMetadata",
    "PolicyRecord",
    "PolicyState",
    "PolicyStore",
    "__version__",
    "create_model_from_metadata",
    "diff",
    "export",
    "fits",
    "from_pretrained",
    "inspect",
    "list_checkpoints",
    "migrate",
    "migrate_all_checkpoints_in_dir",
    "migrate_checkpoint",
    "pull",
    "push",
    "register",
    "save_pretrained",
    "scan",
    "try_policy",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'metta_hub' has no attribute '{name}'")
    found: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
