"""A file of torch.save that holds a plain state dict and has no metadata beside it, whatever its name ends in."""

from pathlib import Path

from metta_hub import containers, metadata, names
from metta_hub.checkpoint import Checkpoint, FileState, Origin
from metta_hub.containers import torch_file

FORMAT = "state dict"


def sniff(path: Path) -> bool:
    """Whether torch.save wrote the file."""
    return path.is_file() and containers.sniff(path) in torch_file.CONTAINERS


def read(path: Path) -> Checkpoint:
    """Read the weights; of the metadata only the epoch is known, when the file's name ends in one.

    Raises:
        FormatError: it is damaged or not plain.
    """
    sources = {path: FileState.of(path)}
    opened = torch_file.read(path)
    epoch = names.epoch_in(path.stem)
    return Checkpoint(
        name=names.checkpoint_name(path.stem),
        weights=opened.weights,
        metadata=metadata.from_values({} if epoch is None else {"epoch": epoch}),
        origin=Origin(
            path=path,
            format=FORMAT,
            container=opened.container,
            sources=sources,
            findings=opened.findings,
            pt=path,
            unused_bytes=opened.unused_bytes,
            warnings=opened.warnings,
        ),
    )
