"""What torch, safetensors and Python's json make of a file, in the words in which we say it."""

import hashlib
import json
import warnings

import safetensors
import torch

from containers.builders import raw
from metta_hub.containers import dtypes


def described(name, tensor):
    """A tensor of torch's as the process in `limited` describes one."""
    dtype = dtypes.BY_TORCH[str(tensor.dtype).removeprefix("torch.")]
    shape = list(tensor.shape)
    if dtype.packed > 1:
        shape[-1] *= dtype.packed
    return [name, dtype.name, shape, hashlib.sha256(raw(tensor)).hexdigest()]


def by_torch(path):
    """What torch loads; None when it refuses the file, or finds anything but tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = torch.load(path, weights_only=True, map_location="cpu")
            return [described(name, tensor) for name, tensor in loaded.items()]
        except Exception:
            return None


def by_safetensors(path):
    """What safetensors reads, by name; None when it refuses the file."""
    try:
        listed = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError:
        return None
    return sorted(
        [name, of["dtype"], list(of["shape"]), hashlib.sha256(bytes(of["data"])).hexdigest()] for name, of in listed
    )


class TwiceError(Exception):
    """An object gives a key twice."""


def _once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise TwiceError
    return dict(pairs)


def by_json(content):
    """What Python reads; NaN and its like are floats.

    Raises:
        ValueError: it is not JSON in UTF-8.
        TwiceError: a key stands twice in one object.
    """
    return json.loads(content.removeprefix(b"\xef\xbb\xbf").decode(), object_pairs_hook=_once)


def differences(ours, theirs, repaired, at=""):
    """Pointers at which a value is neither what the text says nor listed as repaired."""
    if at in repaired or (type(ours) is type(theirs) and type(ours) not in {dict, list} and ours == theirs):
        return
    if type(ours) is type(theirs) is dict and ours.keys() == theirs.keys():
        for key, value in ours.items():
            yield from differences(value, theirs[key], repaired, f"{at}/{key.replace('~', '~0').replace('/', '~1')}")
    elif type(ours) is type(theirs) is list and len(ours) == len(theirs):
        for place, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, repaired, f"{at}/{place}")
    else:
        yield at
