"""A lone `.safetensors` file: weights without metadata."""

from pathlib import Path

from metta_hub import containers, metadata, names
from metta_hub.checkpoint import Checkpoint, FileState, Origin
from metta_hub.containers import safetensors

FORMAT = CONTAINER = "safetensors"


def sniff(path: Path) -> bool:
    """Whether the path is a safetensors file."""
    return path.is_file() and containers.sniff(path) == CONTAINER


def read(path: Path) -> Checkpoint:
    """Read the weights table; of the metadata only the epoch is known, when the file's name ends in one.

    Raises:
        FormatError: the file is damaged.
    """
    sources = {path: FileState.of(path)}
    epoch = names.epoch_in(path.stem)
    return Checkpoint(
        name=names.checkpoint_name(path.stem),
        weights=safetensors.read(path),
        metadata=metadata.from_values({} if epoch is None else {"epoch": epoch}),
        origin=Origin(path=path, format=FORMAT, container=CONTAINER, sources=sources),
    )
