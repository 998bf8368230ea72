"""The tensors of a module as a table over plain bytes in a file: what the writers of checkpoints take."""

import ctypes
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers.dtypes import BY_TORCH, Dtype
from metta_hub.errors import BadTypeError, BadValueError

#: How deep compiled and distributed policies are wrapped at most.
_MAX_WRAPPERS = 8


def unwrapped(policy: object) -> nn.Module:
    """The policy itself, out of what compiling and distributing put around it.

    Raises:
        BadTypeError: it is no module.
    """
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(policy, nn.Module):
            break
        inner = policy._modules.get("_orig_mod", policy._modules.get("module"))  # noqa: SLF001  (no other way to ask)
        if inner is None or len(policy._modules) > 1 or policy._parameters:  # noqa: SLF001
            return policy
        policy = inner
    if isinstance(policy, nn.Module):
        return policy
    sentence = f"An object of '{type(policy).__name__}' is no torch.nn.Module, so it has no weights to save."
    hint = "give the module that has the weights"
    if callable(getattr(policy, "network", None)):  # mettagrid's policies
        hint = "record.policy = policy.network(): its network is what has the weights"
    raise BadTypeError("policy", sentence, hint=hint)


def state_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What `state_dict()` gives, if nothing but tensors.

    Raises:
        BadValueError: there is something else in it.
    """
    state: dict[str, Any] = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            sentence = f"'{name}' in its state dict is a {type(value).__name__}, and a checkpoint holds tensors alone."
            raise BadValueError(name, sentence, hint="make it a buffer, or leave it out of state_dict()")
        yield name, value


def written(named: Iterable[tuple[str, Tensor]], file: BinaryIO, path: Path) -> Weights:
    """Write the bytes of tensors, and tell where each lies; tied tensors lie there once.

    Args:
        named: the tensors, on any device.
        file: open for writing, empty.
        path: the same file's name, as the table has it.

    Raises:
        BadValueError: there are none, or ones that are on the meta device or that no checkpoint can hold.
    """
    tensors: list[TensorInfo] = []
    storages: dict[str, Storage] = {}
    places: dict[object, str] = {}
    for name, tensor in ((name, tensor.detach()) for name, tensor in named):
        dtype = _dtype_of(name, tensor)
        key = places.setdefault(_identity(tensor), str(len(places)))
        shape = tuple(tensor.shape)
        if dtype.packed > 1:
            shape = (*shape[:-1], shape[-1] * dtype.packed)
        tensors.append(TensorInfo(name, dtype.name, shape, _steps(shape), key, 0))
        if key not in storages:
            size = tensor.numel() * dtype.itemsize
            storages[key] = Storage(path, file.tell(), size)
            _write(tensor, size, file)
    file.flush()
    if not tensors:
        raise BadValueError("policy", "The module has no tensors to save.", hint="give the module that has the weights")
    return Weights(tuple(tensors), storages)


def _dtype_of(name: str, tensor: Tensor) -> Dtype:
    found = BY_TORCH.get(str(tensor.dtype).removeprefix("torch."))
    if tensor.is_meta:
        sentence = f"'{name}' is on the meta device: it has no values to save."
        raise BadValueError(name, sentence, hint="load the weights into the module first")
    if found is None or tensor.is_quantized or tensor.layout is not torch.strided:
        sentence = f"'{name}' is {tensor.dtype} in {tensor.layout}, which no checkpoint can hold."
        raise BadValueError(name, sentence, hint="dequantize() or to_dense() it first")
    return found


def _identity(tensor: Tensor) -> object:
    """Equal for tensors that are one and the same; one without elements is nobody's."""
    if not tensor.numel():
        return object()
    address, place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    marks = (tensor.is_neg(), tensor.is_conj())
    return tensor.device, address, place, tensor.dtype, tuple(tensor.shape), tensor.stride(), marks


def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    steps, step = [], 1
    for size in reversed(shape):
        steps.append(step)
        step *= max(size, 1)
    return tuple(reversed(steps))


def _write(tensor: Tensor, size: int, file: BinaryIO) -> None:
    """Write the values in row-major order. Not through numpy, which need not be there."""
    if not size:
        return
    values = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    file.write(memoryview((ctypes.c_uint8 * size).from_address(values.data_ptr())))
