"""Putting weights into a module: all or nothing, and explained."""

import difflib
import mmap
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from metta_hub.checkpoint import BITS, Storage, TensorInfo, Weights
from metta_hub.containers import copying
from metta_hub.containers.dtypes import BY_NAME
from metta_hub.errors import UsageError, WeightsMismatchError
from metta_hub.policies.description import WRAPPERS, unwrapped, wrapping

#: Names that an error's sentence lists of each kind; its fields have them all.
SHOWN = 8
#: Names among which the nearest is sought.
_SOUGHT = 2_000

_OTHER = "the metadata describe another network than the one that these weights are of"
#: What fills a tensor with random numbers.
_DRAWING = frozenset({Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_})

#: How much of a policy may have initial values: so many times the bytes of its checkpoint, and so many besides.
_MOST_FILLED, _ALWAYS_FILLED = 4, 64 << 20

_FLOATING = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


class Undrawn(TorchFunctionMode):
    """Leaves tensors on the meta device without initial values: torch would import its compiler to draw none.

    That takes longer than everything else that loading a policy does.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401  (torch's protocol)
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Return a tensor without values as it is, instead of drawing some for it."""
        del types
        kwargs = kwargs or {}
        filled = args[0] if args else kwargs.get("tensor")
        if func in _DRAWING and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **kwargs)


def load_weights(
    module: nn.Module, weights: Weights, *, strict: bool = True, mapped: bool = False, mixed: bool = False
) -> None:
    """Put weights into a freshly built module, all or nothing.

    What torch's wrappers put before every name (`module.`, `_orig_mod.`) is taken off, with a warning, when the
    module has no such names.

    Args:
        module: on any device; tensors on the meta device are replaced.
        weights: parameter and buffer names → tensors.
        strict: whether every weight of the module must be there, and no other; if not, the others are named in a
            warning. A weight of another shape never fits.
        mapped: as for `read_tensors`.
        mixed: whether floating weights may be of several dtypes, because they will be of one afterwards.

    Raises:
        WeightsMismatchError: names are missing or extra, or a shape differs; `module` is unchanged.
    """
    bare, prefix = unwrapped(weights)
    wanted = module.state_dict()
    if prefix and not any(name.startswith(prefix) for name in wanted):
        warnings.warn(f"'{prefix}' was taken off the names of the weights: they were saved wrapped.", stacklevel=4)
        weights = bare
    found = {tensor.name: tuple(tensor.shape) for tensor in weights.tensors}
    _check(wanted, found, strict=strict)
    _check_dtypes(wanted, weights, mixed=mixed)
    kept = Weights(tuple(one for one in weights.tensors if one.name in wanted), weights.storages)
    _assign(module, read_tensors(kept, mapped=mapped), strict=strict)


def require_size(module: nn.Module, weights: Weights) -> None:
    """Make sure that a module which gets initial values is not much larger than the weights that it is to get.

    Raises:
        WeightsMismatchError: it is.
    """
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if wanted > _MOST_FILLED * weights.nbytes + _ALWAYS_FILLED:
        sentence = f"The policy would have {wanted:,} bytes of weights, of which the checkpoint has {weights.nbytes:,}."
        raise WeightsMismatchError(sentence, hint=_OTHER)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module on a real device, all or nothing.

    Raises:
        WeightsMismatchError: names are missing or extra, or a shape differs; `module` is unchanged.
    """
    _check(module.state_dict(), {name: tuple(tensor.shape) for name, tensor in tensors.items()}, strict=True)
    module.load_state_dict(dict(tensors))


def unwrapped_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same without what torch's wrappers put before every name."""
    prefix = wrapping(list(tensors))
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def placed(module: nn.Module, device: torch.device | str, dtype: torch.dtype | str | None) -> nn.Module:
    """The module on a device, its floating weights of a dtype.

    Raises:
        UsageError: the dtype is no floating one.
    """
    if dtype is None:
        return module.to(device)
    found = _FLOATING.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    if found is None or not found.is_floating_point:
        raise UsageError(f"Weights cannot be of dtype '{dtype}'.", hint=f"one of {', '.join(_FLOATING)}")
    return module.to(device, found)


def read_tensors(weights: Weights, *, mapped: bool = False) -> dict[str, Tensor]:
    """Every tensor, contiguous, on the CPU; names that are tied share one tensor.

    Args:
        weights: names → tensors.
        mapped: map files into memory where values lie in them as torch has them, instead of reading them: for files
            that nobody writes to. Whoever writes to such a tensor changes no file.
    """
    maps: dict[Path, mmap.mmap] | None = {} if mapped else None
    shared = {name: group[0] for group in weights.tied for name in group}
    tensors: dict[str, Tensor] = {}
    for tensor in weights.tensors:
        first = shared.get(tensor.name, tensor.name)
        tensors[tensor.name] = tensors[first] if first in tensors else _read(weights, tensor, maps)
    return tensors


def _read(weights: Weights, tensor: TensorInfo, maps: "dict[Path, mmap.mmap] | None") -> Tensor:
    dtype = getattr(torch, BY_NAME[tensor.dtype].torch)
    if tensor.elements == 0:
        return torch.empty(tensor.shape, dtype=dtype)
    storage = weights.storages[tensor.storage]
    at = storage.offset + tensor.offset
    if maps is not None and _lies_as_torch_has_it(tensor, storage) and at % dtype.itemsize == 0:
        if storage.path not in maps:
            maps[storage.path] = _map(storage.path)
        values = torch.frombuffer(maps[storage.path], dtype=torch.uint8, count=tensor.nbytes, offset=at)
    else:
        values = torch.frombuffer(copying.read_tensor(weights, tensor), dtype=torch.uint8)
    return values.view(dtype).reshape(_shape(tensor))


def _lies_as_torch_has_it(tensor: TensorInfo, storage: Storage) -> bool:
    plain = storage.deflated is None and storage.within is None and storage.crc32 is None
    return plain and tensor.contiguous and not tensor.marked


def _map(path: Path) -> mmap.mmap:
    """A file as memory, private to this process."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    """Torch packs two 4-bit floats into one element; safetensors counts each."""
    if BITS[tensor.dtype] >= 8:  # noqa: PLR2004  (bits of a byte)
        return tensor.shape
    return (*tensor.shape[:-1], tensor.shape[-1] // 2)


# --- assigning ---


def _assign(module: nn.Module, tensors: dict[str, Tensor], *, strict: bool) -> None:
    aliases = _aliases(module)
    module.load_state_dict(tensors, strict=strict, assign=True)
    for first, others in aliases.items():
        parameter = module.get_parameter(first)
        for name in others:
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, parameter)
    _refuse_empty(module)


def _aliases(module: nn.Module) -> dict[str, list[str]]:
    """Parameters that a module has under several names: the first → the others. Assigning parts them."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {first: others for first, *others in names.values() if others}


def _refuse_empty(module: nn.Module) -> None:
    """A tensor that no weight filled holds nothing: buffers outside the state dict, built on the meta device."""
    left = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    if left:
        raise WeightsMismatchError(
            f"The policy has tensors that are not in its weights and were left empty: {_shortened(left)}.",
            missing=left,
            hint="let the builder make them on a real device",
        )


# --- comparing ---


def _check(wanted: Mapping[str, Any], found: Mapping[str, tuple[int, ...]], *, strict: bool) -> None:
    missing = sorted(wanted.keys() - found.keys())
    unexpected = sorted(found.keys() - wanted.keys())
    misshapen = [
        f"{name}: {list(found[name])} for {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name] != tuple(tensor.shape)
    ]
    if not strict and (missing or unexpected) and not misshapen:
        warnings.warn(_sentence(missing, unexpected, []), stacklevel=5)
    elif missing or unexpected or misshapen:
        raise WeightsMismatchError(
            _sentence(missing, unexpected, misshapen),
            missing=missing,
            unexpected=unexpected,
            misshapen=misshapen,
            hint=_hint(missing, unexpected),
        )


def _check_dtypes(wanted: Mapping[str, Any], weights: Weights, *, mixed: bool) -> None:
    """Floating numbers where the module has some, whole ones where it has those."""
    dtypes = {one.name: getattr(torch, BY_NAME[one.dtype].torch) for one in weights.tensors if one.name in wanted}
    floating = set(_FLOATING.values())
    wrong = [
        f"{name}: {dtype} for {wanted[name].dtype}"
        for name, dtype in dtypes.items()
        if (dtype in floating) != wanted[name].is_floating_point()
        or (dtype not in floating and dtype.is_floating_point)
    ]
    hint = _OTHER
    several = {dtype for dtype in dtypes.values() if dtype in floating}
    own = {tensor.dtype for tensor in wanted.values() if tensor.is_floating_point()}
    if not wrong and len(several) > 1 and len(own) == 1 and not mixed:
        wrong = [f"{name}: {dtype}" for name, dtype in dtypes.items() if dtype in floating]
        hint = "dtype='float32' makes them all of one"
    if wrong:
        sentence = f"The weights do not fit the policy: {len(wrong)} of another dtype ({_shortened(wrong)})."
        raise WeightsMismatchError(sentence, misshapen=wrong, hint=hint)


def _hint(missing: list[str], unexpected: list[str]) -> str:
    prefix = next((one for one in WRAPPERS if any(name.removeprefix(one) in missing for name in unexpected)), None)
    if prefix is not None and any(name.startswith(prefix) for name in unexpected):
        return f"without the prefix '{prefix}', which torch's wrappers add, some of them would fit"
    return _OTHER


def _sentence(missing: list[str], unexpected: list[str], misshapen: list[str]) -> str:
    near = [_with_nearest(name, unexpected) for name in missing[:SHOWN]] + missing[SHOWN:]
    parts = [("missing", near), ("unexpected", unexpected), ("of another shape", misshapen)]
    said = [f"{len(names)} {kind} ({_shortened(names)})" for kind, names in parts if names]
    return f"The weights do not fit the policy: {'; '.join(said)}."


def _with_nearest(name: str, others: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(others)[:_SOUGHT], n=1, cutoff=0.8)
    return f"{name}, perhaps called {close[0]}" if close else name


def _shortened(names: list[str]) -> str:
    return ", ".join([*names[:SHOWN], *(["…"] if len(names) > SHOWN else [])])
