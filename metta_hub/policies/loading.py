"""Putting weights into a module: all or nothing, and explained."""

import torch
from torch import nn

from metta_hub.checkpoint import BITS, TensorInfo, Weights
from metta_hub.containers import copying
from metta_hub.containers.dtypes import BY_NAME
from metta_hub.errors import WeightsMismatchError

#: Names that an error's sentence lists of each kind; its fields have them all.
SHOWN = 8


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Put weights into a freshly built module, all or nothing.

    Args:
        module: on any device; tensors on the meta device are replaced.
        weights: parameter and buffer names → tensors.

    Raises:
        WeightsMismatchError: names are missing or extra, or a shape differs; `module` is unchanged.
    """
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - weights.by_name.keys())
    unexpected = sorted(weights.by_name.keys() - wanted.keys())
    misshapen = [
        f"{name}: {list(weights.by_name[name].shape)} for {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights.by_name and weights.by_name[name].shape != tuple(tensor.shape)
    ]
    if missing or unexpected or misshapen:
        raise WeightsMismatchError(
            _sentence(missing, unexpected, misshapen),
            missing=missing,
            unexpected=unexpected,
            misshapen=misshapen,
            hint="the metadata describe another network than the one that these weights are of",
        )
    module.load_state_dict(read_tensors(weights), strict=True, assign=True)
    _refuse_empty(module)


def _refuse_empty(module: nn.Module) -> None:
    """A tensor that no weight filled holds nothing: buffers outside the state dict, built on the meta device."""
    left = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    if left:
        raise WeightsMismatchError(
            f"The policy has tensors that are not in its weights and were left empty: {_shortened(left)}.",
            missing=left,
            hint="let the builder make them on a real device",
        )


def read_tensors(weights: Weights) -> dict[str, torch.Tensor]:
    """Read every tensor into memory, contiguous, on the CPU; names that are tied share one tensor."""
    shared = {name: group[0] for group in weights.tied for name in group}
    tensors: dict[str, torch.Tensor] = {}
    for tensor in weights.tensors:
        first = shared.get(tensor.name, tensor.name)
        tensors[tensor.name] = tensors[first] if first in tensors else _read(weights, tensor)
    return tensors


def _read(weights: Weights, tensor: TensorInfo) -> torch.Tensor:
    dtype = getattr(torch, BY_NAME[tensor.dtype].torch)
    if tensor.elements == 0:
        return torch.empty(tensor.shape, dtype=dtype)
    values = torch.frombuffer(copying.read_tensor(weights, tensor), dtype=torch.uint8)
    return values.view(dtype).reshape(_shape(tensor))


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    """Torch packs two 4-bit floats into one element; safetensors counts each."""
    if BITS[tensor.dtype] >= 8:  # noqa: PLR2004  (bits of a byte)
        return tensor.shape
    return (*tensor.shape[:-1], tensor.shape[-1] // 2)


def _sentence(missing: list[str], unexpected: list[str], misshapen: list[str]) -> str:
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)]
    said = [f"{len(names)} {kind} ({_shortened(names)})" for kind, names in parts if names]
    return f"The weights do not fit the policy: {'; '.join(said)}."


def _shortened(names: list[str]) -> str:
    return ", ".join([*names[:SHOWN], *(["…"] if len(names) > SHOWN else [])])
