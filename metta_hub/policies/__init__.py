"""Policies: the only package that imports torch, and only when somebody asks for one.

An architecture is registered under a name: the `type` in the metadata's `model_info`. Names in files are looked up
here, never imported.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from metta_hub.checkpoint import Checkpoint
from metta_hub.errors import ConflictError, MissingDependencyError, UnknownArchitectureError

if TYPE_CHECKING:
    from torch.nn import Module as Module

#: Makes a module from the metadata's `model_info`; its weights are put in afterwards.
Builder = Callable[[Mapping[str, Any]], "Module"]

ENTRY_POINTS = "metta_hub.policies"
_BUILDERS: dict[str, Builder] = {}


def register(name: str, builder: Builder) -> None:
    """Make an architecture known.

    Args:
        name: what `model_info.type` says.
        builder: called with `model_info`; returns a module on any device, the meta device included.

    Raises:
        ConflictError: another builder has that name.
    """
    if _BUILDERS.setdefault(name, builder) is not builder:
        raise ConflictError(name, f"Another builder is registered for '{name}'.", hint="choose another name")


def known() -> tuple[str, ...]:
    """The registered names, those of installed packages (entry point group `metta_hub.policies`) included."""
    return tuple(sorted({*_BUILDERS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}))


def build(checkpoint: Checkpoint, *, device: str = "cpu") -> "Module":
    """Build the policy of a checkpoint and load its weights, strictly; in eval mode.

    Raises:
        MissingDependencyError: torch is not installed.
        UnknownArchitectureError: nobody registered a builder; says what still works.
        WeightsMismatchError: names are missing or extra, or a shape differs; lists every one.
    """
    require_torch()
    from metta_hub.policies.loading import load_weights

    info = checkpoint.metadata.values.get("model_info")
    info = info if isinstance(info, dict) else {}
    module = _builder(str(info.get("type", "unknown")))(info)
    load_weights(module, checkpoint.weights)
    return module.to(device).eval()


def require_torch() -> None:
    """Make sure that torch can be imported.

    Raises:
        MissingDependencyError: it cannot; says what to install.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("torch", "Running a policy", install="torch") from error


def _builder(name: str) -> Builder:
    if name in _BUILDERS:
        return _BUILDERS[name]
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        builder: Builder = entry.load()
        return builder
    raise UnknownArchitectureError(
        name,
        known(),
        hint=f"metta_hub.register('{name[:80]}', builder) makes it known, or a package that has it; a pulled pair loads"
        " with torch.load and a class of your own; push, pull, inspect and verify work without",
    )
