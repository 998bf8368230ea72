"""A file of torch.save, in whichever of torch's two containers."""

from pathlib import Path
from types import ModuleType

from metta_hub import containers
from metta_hub.checkpoint import Findings
from metta_hub.containers import torch_legacy, torch_zip
from metta_hub.containers.torch_table import TorchFile
from metta_hub.containers.zips import Read

__all__ = ["CONTAINERS", "TorchFile", "judge_pickle", "look", "look_in", "pickle_in", "read"]

_MODULES: dict[str, ModuleType] = {module.CONTAINER: module for module in (torch_zip, torch_legacy)}

#: What `containers.sniff` calls such files.
CONTAINERS = frozenset(_MODULES)


def look(path: Path) -> TorchFile:
    """Look at a file; nothing in it is executed, and no tensor is read.

    Raises:
        FormatError: torch.save did not write it, or it is damaged, or claims something impossible.
    """
    found: TorchFile = _MODULES.get(containers.sniff(path), torch_zip).look(path)
    return found


def look_in(read: Read, size: int, path: Path) -> TorchFile:
    """Look at a file that lies within another; as `torch_zip.look_in`.

    Raises:
        FormatError: as `look`.
    """
    module = _MODULES.get(containers.kind(read(containers.HEAD, 0), size), torch_zip)
    found: TorchFile = module.look_in(read, size, path)
    return found


def read(path: Path) -> TorchFile:
    """Look at a file that must be plain.

    Raises:
        NotPlainError: it is not.
        FormatError: as `look`.
    """
    found = look(path)
    _ = found.weights
    return found


def pickle_in(read: Read, size: int, path: Path | str) -> tuple[str, bytes]:
    """Container of a file of which only what is not tensors is at hand, and its pickle that names them.

    Args:
        read: gives bytes of the file; of the storages none are asked for.
        size: of the file.
        path: the file, for errors.

    Raises:
        FormatError: torch.save did not write it, or it is damaged.
    """
    module = _MODULES.get(containers.kind(read(containers.HEAD, 0), size), torch_zip)
    return module.CONTAINER, module.object_pickle(read, size, path)


def judge_pickle(pickle: bytes, container: str, path: Path | str = "the pickle") -> Findings:
    """What a pickle that names tensors asks for, without the file that it came from.

    Raises:
        FormatError: it is damaged.
    """
    findings: Findings = _MODULES[container].judge_pickle(pickle, path)
    return findings
