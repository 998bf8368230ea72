"""Checkpoints on disk. Every module here knows one shape of them and has the same verbs.

`sniff(path)` says whether a path is of that shape, from names and the first bytes; `read(path)` makes a `Checkpoint`
of it. Formats that are also written have `write`. A new format is one module and one word in `FORMATS`.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from metta_hub import containers
from metta_hub.checkpoint import Checkpoint, FileState
from metta_hub.containers import torch_zip
from metta_hub.errors import FormatError, MettaHubError, SourceChangedError
from metta_hub.formats import bundle, pair, record, repo, safetensors_file, sharded, state_dict, wrapped

#: In the order of asking: the first that recognises a path reads it. A JSON beside an old file makes no pair of it.
FORMATS: tuple[ModuleType, ...] = (repo, sharded, record, wrapped, pair, state_dict, safetensors_file, bundle)


def read(path: Path) -> Checkpoint:
    """Read the checkpoint at a path, of whatever format.

    Raises:
        FormatError: it is of no format that we read, is damaged, or is not plain.
        MetadataError: its metadata cannot be what they say they are.
        SourceChangedError: somebody writes to it.
        OSError: it cannot be opened.
    """
    before = FileState.if_any(path)
    try:
        return _read(path)
    except (MettaHubError, OSError) as error:
        if isinstance(error, SourceChangedError) or before == FileState.if_any(path):
            raise
        raise SourceChangedError(
            path, "it changed while it was being read", hint="run the same command again when nobody writes to it"
        ) from error


def _read(path: Path) -> Checkpoint:
    for format_ in FORMATS:
        if format_.sniff(path):
            checkpoint: Checkpoint = format_.read(path)
            return checkpoint
    raise _unknown(path)


#: Why a file of a kind that `containers.sniff` knows is read by no format.
REASONS: Mapping[str, str] = {
    "torch tar": "a tar archive, PyTorch's oldest format; load it with torch if you trust it, and save it again",
    "tar": "a tar archive, and not a checkpoint",
    "pickle": "a pickle that torch.save did not write; it is not loaded, because that would run what it asks for",
}


def _unknown(path: Path) -> FormatError:
    if path.is_dir():
        return FormatError(
            path,
            "the folder is not a copy of a published repo (no checkpoints/index.json), nor one sharded checkpoint "
            "(one NAME.safetensors.index.json), nor a bundle (policy_spec.json and one policy)",
            hint=f"name one checkpoint in it: 'metta-hub list {shlex.quote(str(path))}' shows them",
        )
    if not path.is_file():
        return FormatError(path, "not a regular file")
    if path.stat().st_size == 0:
        return FormatError(path, "the file is empty")
    if containers.sniff(path) == "zip":
        try:
            torch_zip.look(path)
        except FormatError as error:  # it knows other tools' zips
            return error
    return FormatError(
        path,
        REASONS.get(containers.sniff(path), "not a checkpoint that metta-hub reads"),
        hint="it reads pairs (NAME.pt + NAME.json), state dicts, .safetensors files, also sharded ones, and bundles",
    )
