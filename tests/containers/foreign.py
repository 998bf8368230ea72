"""An independent reading of whole pickled policies, by torch itself: classes that are not here are stood in for.

torch.load makes every module; of a class that cannot be imported a stand-in is made, a module when the pickle treats
it as one. Only for the fixtures, which are trusted: this runs their pickles.
"""

import pickle
from types import SimpleNamespace

import torch


class Anything:
    """Takes any arguments, items and state."""

    def __init__(self, *args, **kwargs):
        self.args = args

    def __setstate__(self, state):
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})

    def __setitem__(self, key, value):
        self.__dict__.setdefault("items", {})[key] = value

    def append(self, value):
        self.__dict__.setdefault("listed", []).append(value)

    def extend(self, values):
        self.__dict__.setdefault("listed", []).extend(values)

    def __hash__(self):
        return id(self)


class Module(torch.nn.Module):
    """A module of a class that is not here."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.args = args

    def __setstate__(self, state):
        self.__dict__.update(state)


_HERE = ("torch._utils", "torch.nn.modules", "collections", "torch.storage", "_codecs", "builtins", "__builtin__")
_MODULES = ("metta.agent.lib", "agent.lib", "torch.nn.parallel")


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if module.startswith(_HERE) and name != "getattr":
            return super().find_class(module, name)
        if module == "torch" and (name.endswith("Storage") or name in {"device", "float32", "int64"}):
            return getattr(torch, name)
        is_module = module.startswith(_MODULES) or name in {"MettaAgent", "DistributedMettaAgent"}
        return type(name, (Module if is_module else Anything,), {"__module__": module})


def attributes_of(path):
    """The attributes of a record."""
    machinery = SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="pickle")
    return vars(torch.load(path, map_location="cpu", weights_only=False, pickle_module=machinery))


def state_dict_of(path):
    """The state dict of the agent in a record, out of its wrappers."""
    record = attributes_of(path)
    agent = next(record[name] for name in ("_cached_policy", "_policy") if record.get(name) is not None)
    while not hasattr(agent, "components"):
        agent = agent.args[0] if isinstance(agent, Anything) else agent.module
    return torch.nn.Module.state_dict(agent)
