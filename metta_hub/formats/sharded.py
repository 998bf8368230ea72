"""Weights in several `.safetensors` files, and `NAME.safetensors.index.json` that says which tensor is in which.

The index is an object with `weight_map`, file name by
tensor name, and `metadata`, which is not needed.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from metta_hub import metadata, names, strict_json
from metta_hub.checkpoint import Checkpoint, FileState, Origin, Storage, TensorInfo, Weights
from metta_hub.containers import safetensors
from metta_hub.errors import FormatError
from metta_hub.formats import files

FORMAT = "sharded safetensors"
CONTAINER = safetensors.CONTAINER

ENDING = ".safetensors.index.json"

#: Most files that the weights may be in.
MAX_SHARDS = 10_000

#: An index holds two texts a tensor.
_LIMITS = strict_json.Limits(size=32 << 20, nodes=2 * safetensors.MAX_TENSORS + 1000)

#: Files beside the index only: no path leads out of its folder.
_SHARD = re.compile(r"[^/\\\0.][^/\\\0]{0,250}\.safetensors")


def sniff(path: Path) -> bool:
    """Whether the path is such an index, or a folder with exactly one."""
    return _index_of(path) is not None


def read(path: Path) -> Checkpoint:
    """Read the tables of all files as one; of the metadata only the epoch is known, when the name ends in one.

    Raises:
        FormatError: index and files disagree, or a file is damaged or missing.
    """
    index = _index_of(path) or path
    sources = {index: FileState.of(index)}
    weight_map = _weight_map(index)
    shards = sorted(set(weight_map.values()))
    if len(shards) > MAX_SHARDS:
        raise FormatError(index, f"it lists {len(shards):,} files; {MAX_SHARDS:,} is the limit")
    for shard in (index.parent / name for name in shards):
        if not shard.is_file():
            raise FormatError(index, f"it lists the file '{shard.name}', which is not beside it")
        sources[shard] = FileState.of(shard)
    name = index.name.removesuffix(ENDING)
    epoch = names.epoch_in(name)
    return Checkpoint(
        name=names.checkpoint_name(name),
        weights=_weights(index, weight_map, shards),
        metadata=metadata.from_values({} if epoch is None else {"epoch": epoch}),
        origin=Origin(path=index, format=FORMAT, container=CONTAINER, sources=sources),
    )


def _index_of(path: Path) -> Path | None:
    if path.is_dir():
        found = sorted(path.glob("*" + ENDING))
        return found[0] if len(found) == 1 and found[0].is_file() else None
    return path if path.name.endswith(ENDING) and path.is_file() else None


def _weight_map(index: Path) -> Mapping[str, str]:
    """File name by tensor name."""
    document = strict_json.loads(files.read_document(index), index, _LIMITS).value
    listed = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise FormatError(index, "it has no weight_map from tensors to files")
    found: dict[str, str] = {}
    for tensor, shard in listed.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise FormatError(
                index, f"it places the tensor '{tensor}' in {shard!r}, not in a .safetensors file beside it"
            )
        found[tensor] = shard
    return found


def _weights(index: Path, weight_map: Mapping[str, str], shards: list[str]) -> Weights:
    """All tensors, file by file; each must be where the index says, and nowhere else."""
    tensors: list[TensorInfo] = []
    storages: dict[str, Storage] = {}
    for shard in shards:
        table = safetensors.read(index.parent / shard)
        for tensor in table.tensors:
            if weight_map.get(tensor.name) != shard:
                where = weight_map.get(tensor.name)
                said = f"places it in '{where}'" if where else "does not list it"
                raise FormatError(index, f"'{shard}' holds the tensor '{tensor.name}', but the index {said}")
        tensors += table.tensors
        storages |= table.storages
        if len(tensors) > safetensors.MAX_TENSORS:
            raise FormatError(index, f"its files have more than {safetensors.MAX_TENSORS:,} tensors")
    for name in weight_map.keys() - storages.keys():
        raise FormatError(index, f"it places the tensor '{name}' in '{weight_map[name]}', which does not hold it")
    return Weights(tuple(tensors), storages)
