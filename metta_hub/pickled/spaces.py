"""Action and observation spaces that gymnasium pickled, as Metta's pairs write them.

Source: gymnasium 1.4, the instance dicts of its spaces; specification of Metta's checkpoints, section 2.3.
"""

from metta_hub.pickled.objects import attributes, class_of

_PREFIXES = ("gymnasium.spaces.", "gym.spaces.")
#: What says which space it is, by the class's own name.
_FIELDS = {"MultiDiscrete": ("nvec",), "Discrete": ("n",), "Box": ("_shape",), "MultiBinary": ("n",)}


def described(value: object) -> dict[str, object] | None:
    """`{"type": "MultiDiscrete", "nvec": ...}` and the like, its values as pickled; None when it is no known space."""
    name = class_of(value)
    kind = name.rpartition(".")[2]
    if not name.startswith(_PREFIXES) or kind not in _FIELDS:
        return None
    known = attributes(value)
    found: dict[str, object] = {"type": kind}
    found |= {field.removeprefix("_"): known.get(field) for field in _FIELDS[kind]}
    if kind == "Box":
        found["dtype"] = _dtype(known.get("dtype"))
    return found


def _dtype(value: object) -> str | None:
    """The name of a numpy dtype, which pickles have as `u1` for uint8."""
    args = getattr(value, "args", None)
    code = args[0] if type(args) is tuple and args and type(args[0]) is str else ""
    kinds = {"u": "uint", "i": "int", "f": "float"}
    if code[:1] in kinds and code[1:].isdigit():
        return f"{kinds[code[0]]}{int(code[1:]) * 8}"
    return {"b1": "bool"}.get(code)
