"""One pickled object: its class, its attributes, what it contains.

What is asked of one object must take no time, however much it holds: the same one may be held by a million others.
"""

from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping

from metta_hub.containers.pickles import Boxed, Global, Record

#: Python 2's names of the built-in module and of two types in it, as protocols 0 to 2 have them.
_BUILTINS = {"__builtin__": "builtins"}
_DICTS = frozenset({"collections.OrderedDict", "collections.defaultdict", "builtins.dict"})
_SETS = frozenset({"builtins.set", "builtins.frozenset"})

#: An attribute that is not there, where None is a value.
MISSING = object()


def name_of(value: object) -> str:
    """`module.name` of a global; empty for anything else."""
    return f"{_BUILTINS.get(value.module, value.module)}.{value.name}" if type(value) is Global else ""


def class_of(value: object) -> str:
    """`module.name` of the class, or of the function that would have made the object; empty when it is no object."""
    return name_of(value.callable) if type(value) is Record else ""


def attributes(value: object) -> Mapping[str, object]:
    """The instance dict that unpickling would have left, with what stands in slots; empty when it is no object.

    Python gives an object one state. One that is given several, or something else than dicts, has no attributes.
    """
    state = value.states[0] if type(value) is Record and len(value.states) == 1 else None
    if type(state) is dict:
        return state
    match state:  # copyreg gives objects with slots a pair: the dict, and the slots
        case (dict() | None as known, dict() | None as slots):
            return ChainMap(slots or {}, known or {})
    return {}


def attribute(value: object, *names: str) -> object:
    """The first of some attributes that is there and not None; `MISSING` when none is."""
    known = attributes(value)
    return next((known[name] for name in names if known.get(name) is not None), MISSING)


def pairs_of(value: object) -> Iterable[tuple[object, object]]:
    """The keys and values of a dict, of whatever class; none for anything else."""
    if type(value) is dict:
        return value.items()
    return value.pairs if type(value) is Record else ()


def entries(value: object) -> Mapping[str, object]:
    """A dict's values by those of its keys that are texts; as in a dict, the last of equal keys counts."""
    return {key: item for key, item in pairs_of(value) if type(key) is str}


def size_of(value: object) -> int:
    """How many entries or elements there are at most."""
    if type(value) is not Record:
        return len(value) if isinstance(value, Collection) else 0
    return len(value.pairs) + len(value.items) + len(_listed(value))


def is_dict(value: object) -> bool:
    """Whether it is a dict, or an object that items were set in."""
    return type(value) is dict or (type(value) is Record and (class_of(value) in _DICTS or bool(value.pairs)))


def elements(value: object) -> list[object] | None:
    """The elements of a list, tuple or set, in their order; None for anything else."""
    if type(value) in {list, tuple}:
        return list(value)  # type: ignore[call-overload, no-any-return]
    if type(value) in {set, frozenset}:
        return [item.value if type(item) is Boxed else item for item in value]  # type: ignore[attr-defined]
    if type(value) is not Record:
        return None
    if class_of(value) in _SETS:
        return [*_listed(value), *value.items]
    return list(value.items) if value.items else None


def _listed(value: Record) -> list[object]:
    """The list that an object was made of, as protocols of before 4 make sets; empty when it was made otherwise."""
    args = value.args
    listed = args[0] if type(args) is tuple and len(args) == 1 else None
    return listed if type(listed) is list else []
