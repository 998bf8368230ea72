"""Policies: the only package that imports torch, and only when somebody asks for one.

An architecture goes by a name: the `type` in the metadata's `model_info`. Names in files are looked up here, never
imported.
"""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from metta_hub.checkpoint import Checkpoint
from metta_hub.errors import BadTypeError, ConflictError, MissingDependencyError, UnknownArchitectureError
from metta_hub.policies.description import UNNAMED, Description, Pretrained

if TYPE_CHECKING:
    from typing import TypeAlias

    import torch
    from torch.nn import Module as Module

    Device: TypeAlias = torch.device | str
    DType: TypeAlias = torch.dtype | str

#: Makes a module from the metadata's `model_info`; its weights are put in afterwards.
Builder = Callable[[Mapping[str, Any]], "Module"]

ENTRY_POINTS = "metta_hub.policies"
_BUILDERS: dict[str, Builder] = {}
#: The attribute in which a policy remembers what it was built from; copies of it remember, too.
_PRETRAINED = "_metta_hub_pretrained"

#: The module that builds Metta's agents from their component graphs.
METTA_AGENT = "metta_agent"
#: What this package builds itself: a name → the module of this package whose `build` takes a `Description`.
BUILT_IN: Mapping[str, str] = {"LSTMPolicy": "mettagrid_lstm", "MettaAgent": METTA_AGENT, "lstm": "mettagrid_lstm"}

#: Those of which names and shapes of the weights show everything, so that metadata may say nothing.
_SHOWN_BY_WEIGHTS = ("mettagrid_lstm", "metta_agent")

#: Wrappers around agents whose names Metta's pairs have for the agent's own: compiled, distributed.
_WRAPPERS: Mapping[str, str] = {
    "DistributedDataParallel": "MettaAgent",
    "DistributedMettaAgent": "MettaAgent",
    "OptimizedModule": "MettaAgent",
}


def register(name: str, builder: Builder) -> None:
    """Make an architecture known; one that is built in under that name is used no more.

    Args:
        name: what `model_info.type` says.
        builder: called with `model_info`; returns a module on any device, the meta device included.

    Raises:
        ConflictError: another builder has that name.
        BadTypeError: the builder cannot be called.
    """
    if not callable(builder):
        raise BadTypeError("builder", f"The builder for '{name}' is no function.", hint="it takes a model_info")
    if _BUILDERS.setdefault(name, builder) is not builder:
        raise ConflictError(name, f"Another builder is registered for '{name}'.", hint="choose another name")


def known() -> tuple[str, ...]:
    """The names that can be built, those of installed packages (entry point group `metta_hub.policies`) included."""
    return tuple(sorted({*_BUILDERS, *BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}))


def build(
    checkpoint: Checkpoint,
    *,
    device: "Device" = "cpu",
    dtype: "DType | None" = None,
    strict: bool = True,
    assume_preset: bool = False,
    mapped: bool = False,
) -> "Module":
    """Build the policy of a checkpoint and load its weights; in eval mode.

    Args:
        checkpoint: metadata and weights.
        device: where the policy will be.
        dtype: of its floating weights; None for that of the checkpoint.
        strict: whether every weight of the policy must be there, and no other.
        assume_preset: whether the options of a shipped agent may be taken for those that nothing shows.
        mapped: whether its files stay as they are while the policy is there, so that weights need not be copied.

    Raises:
        MissingDependencyError: torch is not installed.
        UnknownArchitectureError: nobody registered a builder; says what still works.
        ArchitectureError: its architecture makes no policy.
        AssumptionError: part of its architecture would have to be assumed.
        WeightsMismatchError: names are missing or extra, or a shape differs; lists every one.
    """
    require_torch()
    from metta_hub.policies import loading

    description = Description.of(checkpoint, assume_preset=assume_preset)
    # Where every weight is replaced, memory for others would be taken in vain.
    module = _made(description, "meta")
    if not strict:
        loading.require_size(module, checkpoint.weights)
        module = _made(description, "cpu")
    loading.load_weights(module, checkpoint.weights, strict=strict, mapped=mapped, mixed=dtype is not None)
    said = checkpoint.metadata.block.get("assumed")
    _warn_of_assumptions([*getattr(module, "assumed", ()), *(said if isinstance(said, list) else ())])
    vars(module)[_PRETRAINED] = Pretrained(checkpoint.name, checkpoint.metadata)
    return loading.placed(module, device, dtype).eval()


def pretrained(module: object) -> Pretrained | None:
    """What a policy that `build` gave was built from; None of any other."""
    found = vars(module).get(_PRETRAINED)
    return found if isinstance(found, Pretrained) else None


def create_model_from_metadata(
    model_info: Mapping[str, Any],
    state_dict: "Mapping[str, torch.Tensor] | None" = None,
    *,
    assume_preset: bool = False,
) -> "Module":
    """Build the policy that a pair's `model_info` describes, on the CPU and in eval mode.

    Args:
        model_info: as the JSON of a pair has it; or all of that JSON, which says more: which feature has which id.
        state_dict: the pair's weights, which are loaded; needed where the metadata hold no architecture.
        assume_preset: whether the options of a shipped agent may be taken for those that nothing shows.

    Returns:
        The policy, with initial weights when there is no `state_dict`.

    Raises:
        MissingDependencyError: torch is not installed.
        UnknownArchitectureError: nobody registered a builder; says what still works.
        ArchitectureError: its architecture makes no policy.
        AssumptionError: part of its architecture would have to be assumed.
        WeightsMismatchError: the weights are not that architecture's.
    """
    require_torch()
    from metta_hub.policies import loading

    tensors = loading.unwrapped_tensors(state_dict or {})
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if not isinstance(model_info, Mapping):
        kind = type(model_info).__name__
        raise BadTypeError("model_info", f"A {kind} is no model_info.", hint="give the one in the JSON of a pair")
    whole = isinstance(model_info.get("model_info"), Mapping)
    known = dict(model_info) if whole else {"model_info": dict(model_info)}
    module = _made(Description(known, shapes, assume_preset), "cpu")
    if state_dict is not None:
        loading.load_tensors(module, tensors)
    _warn_of_assumptions(getattr(module, "assumed", ()))
    return module.eval()


def require_torch() -> None:
    """Make sure that torch can be imported.

    Raises:
        MissingDependencyError: it cannot; says what to install.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("torch", "Running a policy", install="torch") from error


def _made(description: Description, device: str) -> "Module":
    import torch

    builder = _registered(description.type)
    if builder is not None:
        return builder(description.info)
    name = _WRAPPERS.get(description.type, description.type)
    place = BUILT_IN.get(name) or _recognised(description)
    if place is None:
        raise _unknown(name)
    from metta_hub.policies.loading import Undrawn

    with torch.device(device), Undrawn():
        built: Module = import_module(f"{__name__}.{place}").build(description)
        return built


def _recognised(description: Description) -> str | None:
    """The module that builds what has no name but weights that show what it is."""
    if description.type != UNNAMED:
        return None
    places = (
        place for place in _SHOWN_BY_WEIGHTS if import_module(f"{__name__}.{place}").recognises(description.shapes)
    )
    return next(places, None)


def _registered(name: str) -> Builder | None:
    """The builder that somebody registered under a name."""
    if name in _BUILDERS:
        return _BUILDERS[name]
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        builder: Builder = entry.load()
        return builder
    return None


def _unknown(name: str) -> UnknownArchitectureError:
    return UnknownArchitectureError(
        name,
        known(),
        hint=f"metta_hub.register('{name[:80]}', builder) makes it known, or a package that has it; a pulled pair loads"
        " with torch.load and a class of your own; push, pull, inspect and verify work without",
    )


def _warn_of_assumptions(assumed: "list[Any] | tuple[str, ...]") -> None:
    if assumed:
        listed = ", ".join(dict.fromkeys(map(str, assumed)))
        warnings.warn(f"Of this policy's architecture this was assumed, not known: {listed}.", stacklevel=3)
