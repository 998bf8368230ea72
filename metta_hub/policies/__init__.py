"""Policies: the only package that imports torch, and only when somebody asks for one.

An architecture is registered under a name: the `type` in the metadata's `model_info`. Names in files are looked up
here, never imported.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from metta_hub.checkpoint import Checkpoint
from metta_hub.errors import ConflictError, MissingDependencyError, UnknownArchitectureError

if TYPE_CHECKING:
    from torch.nn import Module as Module

#: Makes a module from the metadata's `model_info`; its weights are put in afterwards.
Builder = Callable[[Mapping[str, Any]], "Module"]

ENTRY_POINTS = "metta_hub.policies"
#: The module of this package that builds an architecture from metadata and the shapes of its weights, by what
#: `model_info.type` says of it: a class, or the short name that a bundle has instead. It needs torch, so it is imported
#: when a policy is built.
BUILT_IN: Mapping[str, str] = {"LSTMPolicy": "mettagrid_lstm", "lstm": "mettagrid_lstm"}
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
    """The names that are built: built in, registered, or of installed packages (entry points `metta_hub.policies`)."""
    return tuple(sorted({*BUILT_IN, *_BUILDERS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}))


def build(checkpoint: Checkpoint, *, device: str = "cpu") -> "Module":
    """Build the policy of a checkpoint and load its weights, strictly; in eval mode.

    Raises:
        MissingDependencyError: torch is not installed.
        UnknownArchitectureError: nobody registered a builder; says what still works.
        ArchitectureError: the metadata ask for what no policy can be.
        WeightsMismatchError: names are missing or extra, or a shape differs; lists every one.
    """
    require_torch()
    from metta_hub.policies.loading import load_weights

    module = _module(checkpoint)
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


def _module(checkpoint: Checkpoint) -> "Module":
    """The policy without its weights. A builder that somebody registered goes before a built-in one."""
    values = checkpoint.metadata.values
    info = values.get("model_info")
    info = info if isinstance(info, dict) else {}
    name = info.get("type")
    name = name if isinstance(name, str) else ""
    builder = _registered(name)
    if builder is not None:
        return builder(info)
    shapes = {tensor.name: tensor.shape for tensor in checkpoint.weights.tensors}
    place = BUILT_IN.get(name) if name else _recognised(shapes)
    if place is None:
        raise _unknown(name or "unknown")
    built: Module = import_module(f"{__name__}.{place}").build(values, shapes)
    return built


def _registered(name: str) -> Builder | None:
    if name in _BUILDERS:
        return _BUILDERS[name]
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        builder: Builder = entry.load()
        return builder
    return None


def _recognised(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The built-in architecture of weights without metadata: names and shapes show that of mettagrid's LSTM."""
    places = dict.fromkeys(BUILT_IN.values())
    return next((one for one in places if import_module(f"{__name__}.{one}").recognises(shapes)), None)


def _unknown(name: str) -> UnknownArchitectureError:
    return UnknownArchitectureError(
        name,
        known(),
        hint=f"metta_hub.register('{name[:80]}', builder) makes it known, or a package that has it; a pulled pair loads"
        " with torch.load and a class of your own; push, pull, inspect and verify work without",
    )
