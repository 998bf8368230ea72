"""torch modules that were pickled whole: the state dict that they would give.

Source: torch 2.13, `torch.nn.Module.state_dict` and `_save_to_state_dict`: a module's parameters, then its persistent
buffers, then its children, each in the order in which they were registered; names joined with dots.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from metta_hub.containers.pickles import Record
from metta_hub.pickled.objects import MISSING, attribute, attributes, class_of, elements, entries

#: Deepest nesting of modules, and most tensors: a module that is its own child would have no end.
MAX_DEPTH = 64
MAX_TENSORS = 1_000_000

_PARAMETERS, _BUFFERS, _CHILDREN = "_parameters", "_buffers", "_modules"
_TRANSIENT = "_non_persistent_buffers_set"
#: The class that torch.compile wraps modules in.
COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
#: The name under which a wrapper has the module that it wraps.
WRAPPERS = {
    COMPILED: "_orig_mod",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "DistributedMettaAgent": "module",
}


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A module without what compiling and distributing put around it.

    Attributes:
        module: the module inside.
        prefixes: what the wrappers put before its names in a state dict, from the outside in: "module.".
    """

    module: object
    prefixes: tuple[str, ...]


def is_module(value: object) -> bool:
    """Whether an object is a torch module, or one that was compiled."""
    return class_of(value) == COMPILED or {_PARAMETERS, _CHILDREN} <= attributes(value).keys()


def unwrap(value: object) -> Unwrapped:
    """Take a module out of its wrappers."""
    prefixes: list[str] = []
    while len(prefixes) < MAX_DEPTH:
        inside = _inside(value)
        if inside is None:
            break
        name, value = inside
        prefixes.append(f"{name}.")
    return Unwrapped(value, tuple(prefixes))


def _inside(value: object) -> tuple[str, object] | None:
    """The wrapped module of a wrapper, with its name; None when it is no wrapper."""
    class_ = class_of(value)
    name = WRAPPERS.get(class_) or WRAPPERS.get(class_.rpartition(".")[2])
    if name is None:
        return None
    child = entries(attributes(value).get(_CHILDREN)).get(name)
    if child is None and type(value) is Record and type(value.args) is tuple and value.args:
        child = value.args[0]  # torch.compile's is made by calling its class with it
    return None if child is None else (name, child)


def state_dict(module: object) -> Iterator[tuple[str, Record]]:
    """Names and tensors of a module's state dict, in its order.

    Raises:
        ValueError: the module is no module all through, or has no end; says where.
    """
    for count, named in enumerate(_tensors(module, "", 0)):
        if count >= MAX_TENSORS:
            raise ValueError(f"it has more than {MAX_TENSORS:,} tensors")
        yield named


def _tensors(module: object, prefix: str, depth: int) -> Iterator[tuple[str, Record]]:
    if depth > MAX_DEPTH:
        raise ValueError(f"its modules are nested deeper than {MAX_DEPTH}, at '{prefix[:100]}'")
    known = attributes(module)
    if not {_PARAMETERS, _CHILDREN} <= known.keys():
        raise ValueError(f"'{prefix.removesuffix('.')}' is {class_of(module) or 'something'} and no module")
    transient = {item for item in elements(known.get(_TRANSIENT)) or () if type(item) is str}
    held = [*entries(known[_PARAMETERS]).items()]
    held += [(name, item) for name, item in entries(known.get(_BUFFERS)).items() if name not in transient]
    for name, item in held:
        if item is None:
            continue
        if type(item) is not Record:
            raise ValueError(f"'{prefix}{name}' is a {type(item).__name__} and no tensor")
        yield f"{prefix}{name}", _plain_tensor(item)
    for name, child in entries(known[_CHILDREN]).items():
        if child is not None:
            yield from _tensors(child, f"{prefix}{name}.", depth + 1)


def _plain_tensor(item: Record) -> Record:
    """The tensor itself, of one that also has attributes, which a state dict does not have."""
    match class_of(item), item.args:
        case ("torch._utils._rebuild_from_type_v2", (function, _, tuple() as args, _)):
            return _plain_tensor(Record(function, args))
        case ("torch._utils._rebuild_parameter_with_state", (data, grad, hooks, _)):
            return _plain_tensor(data) if type(data) is Record else Record(item.callable, (data, grad, hooks))
    return item


def child(module: object, name: str) -> object:
    """A child of a module; `MISSING` when there is none."""
    return entries(attribute(module, _CHILDREN)).get(name, MISSING)
