"""torch modules that were pickled whole: the state dict that they would give.

Source: torch 2.13, `torch.nn.Module.state_dict` and `_save_to_state_dict`: a module's parameters, then its persistent
buffers, then its children, each in the order in which they were registered; names joined with dots.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metta_hub.containers.pickled_tensors import MAX_LETTERS
from metta_hub.containers.pickles import Record
from metta_hub.pickled.objects import MISSING, attribute, attributes, class_of, elements, entries, size_of

#: Deepest nesting of modules, and most of them with all that they hold. One module can stand in many places, so a small
#: pickle can have more of them than can ever be counted.
MAX_DEPTH = 64
MAX_ENTRIES = 100_000
#: Most wrappers around a module: compiled and distributed are two.
MAX_WRAPPERS = 8

#: Both a parameter and its tensor can have attributes.
_MAX_LAYERS = 2

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
    while len(prefixes) < MAX_WRAPPERS:
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
    yield from _Walk().tensors(module, "", 0)


class _Walk:
    """A walk through modules that gives up when there are too many."""

    def __init__(self) -> None:
        self._entries = MAX_ENTRIES
        self._letters = MAX_LETTERS

    def tensors(self, module: object, prefix: str, depth: int) -> Iterator[tuple[str, Record]]:
        """Names and tensors of a module and of those in it.

        Raises:
            ValueError: as `state_dict`.
        """
        self._count(1, len(prefix))
        if depth > MAX_DEPTH:
            raise ValueError(f"its modules are nested deeper than {MAX_DEPTH}, at '{prefix[:100]}'")
        known = attributes(module)
        if not {_PARAMETERS, _CHILDREN} <= known.keys():
            where = f"'{prefix.removesuffix('.')[:100]}'"
            raise ValueError(f"{where} is {class_of(module) or 'something'} and no module")
        for name, item in self._held(known):
            if item is None:
                continue
            self._count(0, len(prefix) + len(name))
            if type(item) is not Record:
                raise ValueError(f"'{prefix}{name}'"[:100] + f" is a {type(item).__name__} and no tensor")
            yield f"{prefix}{name}", _plain_tensor(item)
        for name, child in entries(known[_CHILDREN]).items():
            if child is not None:
                yield from self.tensors(child, f"{prefix}{name}.", depth + 1)

    def _held(self, known: Mapping[str, object]) -> Iterator[tuple[str, object]]:
        """A module's own parameters and persistent buffers."""
        parts = [known.get(key) for key in (_PARAMETERS, _BUFFERS, _CHILDREN, _TRANSIENT)]
        self._count(sum(map(size_of, parts)), 0)
        parameters, buffers, _, named = parts
        transient = {item for item in elements(named) or () if type(item) is str}
        yield from entries(parameters).items()
        yield from ((name, item) for name, item in entries(buffers).items() if name not in transient)

    def _count(self, entries_: int, letters: int) -> None:
        self._entries -= entries_
        self._letters -= letters
        if self._entries < 0:
            raise ValueError(f"it has more than {MAX_ENTRIES:,} modules and tensors")
        if self._letters < 0:
            raise ValueError(f"the names of its modules and tensors take more than {MAX_LETTERS:,} letters")


def _plain_tensor(item: Record) -> Record:
    """The tensor itself, of one that also has attributes, which a state dict does not have."""
    for _ in range(_MAX_LAYERS):
        match class_of(item), item.args:
            case ("torch._utils._rebuild_from_type_v2", (function, _, tuple() as args, _)):
                item = Record(function, args)
            case ("torch._utils._rebuild_parameter_with_state", (data, grad, hooks, _)):
                item = data if type(data) is Record else Record(item.callable, (data, grad, hooks))
            case _:
                break
    return item


def child(module: object, name: str) -> object:
    """A child of a module; `MISSING` when there is none."""
    return entries(attribute(module, _CHILDREN)).get(name, MISSING)
