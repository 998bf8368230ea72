"""Old files of made-up classes: modules, metadata, and the shapes in which Metta pickled both, one an era.

The classes are of modules that are there only while something is pickled; whoever reads the files has none of them.
"""

import sys
from collections import OrderedDict, defaultdict
from contextlib import contextmanager
from math import isfinite
from pathlib import PurePosixPath
from types import ModuleType

import torch
from hypothesis import strategies as st

from containers.builders import DTYPES, filled
from properties.strategies import shapes, views

# --- classes ---


def _class(module, name, *bases):
    return type(name, bases, {"__module__": module, "__qualname__": name})


AGENT = _class("metta.agent.metta_agent", "MettaAgent", torch.nn.Module)
LAYERS = tuple(_class("metta.agent.lib.layers", name, torch.nn.Module) for name in ("Linear", "Core", "Obs"))
DISTRIBUTED = _class("metta.agent.metta_agent", "DistributedMettaAgent", torch.nn.Module)
METADATA = _class("metta.agent.policy_metadata", "PolicyMetadata", dict)
OLDEST, OLD, RECORD = (
    _class(module, "PolicyRecord")
    for module in ("agent.policy_store", "metta.agent.policy_store", "metta.agent.policy_record")
)


@contextmanager
def registered():
    """Have the classes be importable."""
    classes = (AGENT, *LAYERS, DISTRIBUTED, METADATA, OLDEST, OLD, RECORD)
    names = {class_.__module__ for class_ in classes}
    names |= {name.rpartition(".")[0] for name in names} | {"metta", "agent"}
    assert not names & sys.modules.keys()
    sys.modules.update({name: ModuleType(name) for name in names})
    for class_ in classes:
        setattr(sys.modules[class_.__module__], class_.__name__, class_)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


# --- modules ---

_NAMES = st.sampled_from(["weight", "bias", "_net", "0", "W", "é漢", "a b", "x" * 200]) | st.text(
    st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=6
)
#: Packed values have no strides, and torch makes no parameters of them.
_DTYPES = tuple(dtype for dtype in DTYPES if dtype != "float4_e2m1fn_x2")


@st.composite
def _tensors(draw, known):
    """A tensor: a new one, or another that stands in the policy already, or a view of one."""
    how = draw(st.sampled_from(["new", "new", "new"] + ["same", "view"] * bool(known)))
    if how == "new":
        known.append(filled(draw(shapes), draw(st.sampled_from(_DTYPES)), len(known)))
        return known[-1]
    base = draw(st.sampled_from(known))
    return base if how == "same" else draw(views(base.detach()))


@st.composite
def _modules(draw, class_, known, depth):
    module = class_()
    for name in draw(st.lists(_NAMES, unique=True, max_size=4)):
        if hasattr(module, name):
            continue
        how = draw(st.sampled_from(["parameter", "parameter", "buffer", "transient", "none"]))
        if how == "none":
            module.register_parameter(name, None)
            continue
        tensor = draw(_tensors(known))
        if how != "parameter":
            module.register_buffer(name, tensor.detach(), persistent=how == "buffer")
        elif isinstance(tensor, torch.nn.Parameter):
            module.register_parameter(name, tensor)
        else:
            learns = (tensor.is_floating_point() or tensor.is_complex()) and draw(st.booleans())
            parameter = torch.nn.Parameter(tensor.detach(), requires_grad=learns)
            if draw(st.integers(0, 5)) == 0:
                parameter.note = "kept beside the values"
            known.append(parameter)
            module.register_parameter(name, parameter)
    module.extra = filled((2,), seed=9)  # an attribute that is no part of the state dict
    for name in draw(st.lists(_NAMES, unique=True, max_size=3 if depth else 0)):
        if not hasattr(module, name):
            module.add_module(name, draw(_modules(draw(st.sampled_from(LAYERS)), known, depth - 1)))
    children = [child for child in module.children() if child is not None]
    if children and draw(st.integers(0, 3)) == 0:  # one child in two places
        module.add_module("twice", draw(st.sampled_from(children)))
    return module


@st.composite
def agents(draw):
    """An agent, with components or without."""
    known = []
    agent = draw(_modules(AGENT, known, 2))
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(["_obs_", "_core_", "_action_", "_value_"]), unique=True, max_size=3))
        components = {name: draw(_modules(draw(st.sampled_from(LAYERS)), known, 1)) for name in names}
        agent.components = torch.nn.ModuleDict(components)
    return agent


# --- metadata ---

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_COUNTED = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")
_MEASURED = ("float16", "bfloat16", "float32", "float64")


@st.composite
def _small_tensors(draw):
    tensor = filled(draw(shapes), draw(st.sampled_from(_COUNTED + _MEASURED)), draw(st.integers(0, 9)))
    return draw(st.just(tensor) | views(tensor))


_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | _TEXTS
    | _small_tensors()
    | st.sampled_from(
        [torch.device("cuda:1"), torch.device("cpu"), torch.float32, PurePosixPath("/a/b"), torch.Size([2, 3])]
    )
)
_hashable = st.integers().filter(lambda number: abs(number) < 1 << 200) | _TEXTS
metadata_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(_TEXTS, inner, max_size=3)
        | st.dictionaries(_TEXTS, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(_TEXTS, inner, max_size=3).map(lambda known: defaultdict(list, known))
        | st.dictionaries(st.integers(-9, 9), inner, max_size=3)
        | st.sets(_hashable, max_size=3)
        | st.frozensets(_hashable, max_size=3)
    ),
    max_leaves=8,
)


def as_json(value):
    """What JSON has for a value: NaN and infinity have no word in it."""
    if isinstance(value, torch.Tensor):
        return as_json(value.tolist())
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    if isinstance(value, torch.device | torch.dtype | PurePosixPath):
        return str(value)
    return None if isinstance(value, float) and not isfinite(value) else value


# --- files ---

ERAS = ("2024", "May", "July 1", "July", "checkpoint", "bare", "distributed")


def _record(class_, **attributes):
    record = class_()
    vars(record).update(attributes, uri="file:///home/someone/model_0007.pt", _policy_store=None)
    return record


def pickled(era, agent, metadata, path):
    """Save what Metta saved then."""
    known = METADATA(metadata)
    records = {
        "2024": lambda: _record(OLDEST, name="a/model_0007.pt", metadata=metadata, _policy=agent, _local_path="/x"),
        "May": lambda: _record(OLD, name="model_0007.pt", metadata=metadata, _policy=agent, _local_path="/x"),
        "July 1": lambda: _record(RECORD, name="model_0007.pt", _metadata=known, _cached_policy=agent),
        "July": lambda: _record(RECORD, run_name="model_0007.pt", _metadata=known, _cached_policy=agent),
        "checkpoint": lambda: _record(RECORD, run_name="x", checkpoint=metadata, _policy=agent, _cached_policy=None),
        "bare": lambda: agent,
        "distributed": lambda: _record(RECORD, run_name="x", _metadata=known, _cached_policy=_distributed(agent)),
    }
    with registered():
        torch.save(records[era](), path)


def _distributed(agent):
    wrapper = DISTRIBUTED()
    wrapper.module = agent
    return wrapper
