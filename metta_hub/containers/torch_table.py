"""What both containers of torch come to: a file that was looked at, and the table of weights in a plain one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from metta_hub.checkpoint import Findings, Storage, TensorInfo, Weights
from metta_hub.containers import pickles, strided
from metta_hub.containers.pickles import Pickled
from metta_hub.errors import FormatError, NotPlainError

#: Modules of Metta's classes, in the pickles of its records.
_METTA = ("metta.", "agent.")

#: The opcode at the start that says the protocol, from the second on; and those that torch.load reads weights from.
_PROTOCOL = b"\x80"
_LOADED = frozenset({2, 3})

#: Most pieces of one storage that are told apart.
_MAX_STRETCHES = 100_000

#: A view that repeats its values takes more bytes in safetensors than here. Beyond this many times the size of the
#: file, and this many bytes, it is taken for an attack.
MAX_GROWTH = 16
FREE_GROWTH = 64 << 20


@dataclass(frozen=True)
class TorchFile:
    """A file of torch.save that was looked at.

    Attributes:
        container: what `containers.sniff` and `Origin.container` call such files.
        path: the file.
        size: its bytes.
        pickle: the bytes of the pickle that names the tensors.
        findings: what the pickle asks for, and whether the whole file is plain.
        devices: where its storages were when it was saved, sorted: "cpu", "cuda:0".
        unused_bytes: bytes of storages that no tensor uses; 0 when it is not plain.
    """

    container: ClassVar[str]
    path: Path
    size: int
    pickle: bytes = field(repr=False)
    findings: Findings
    devices: tuple[str, ...]
    unused_bytes: int
    table: Weights | None = field(repr=False)

    @property
    def weights(self) -> Weights:
        """The tensors.

        Raises:
            NotPlainError: the file is not plain.
        """
        if self.table is None:
            record = any(name.startswith(_METTA) for name in self.findings.globals)
            shown = "'metta-hub inspect FILE' shows all that it asks for"
            hint = f"it is a whole pickled policy in a container that Metta never used; {shown}" if record else ""
            raise NotPlainError(self.path, self.findings.reason, globals_=self.findings.globals, hint=hint)
        return self.table

    @property
    def root_object(self) -> object:
        """What the pickle holds, as inert records (`pickles`): for files that are not plain."""
        return pickles.parse(self.pickle, self.path).root

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that a user should see."""
        found = []
        rebuilt = "'metta-hub pull --rebuild' writes one that loads everywhere"
        elsewhere = [device for device in self.devices if device != "cpu"]
        if elsewhere:
            where = ", ".join(elsewhere)
            found.append(f"Saved on {where}: elsewhere it loads only with map_location; {rebuilt}.")
        protocol = self.pickle[1] if self.pickle.startswith(_PROTOCOL) else 1
        if protocol not in _LOADED:
            found.append(f"Pickled with protocol {protocol}: it loads only with weights_only=False; {rebuilt}.")
        if self.unused_bytes:
            found.append(f"{self.unused_bytes:,} bytes of its storages belong to no tensor.")
        return tuple(found)


def devices(pickled: Pickled) -> tuple[str, ...]:
    """Where the storages were that a pickle speaks of, sorted."""
    pids = (reference.pid for reference in pickled.persistent)
    named = (pid[3] for pid in pids if type(pid) is tuple and len(pid) > 3 and pid[0] == "storage")  # noqa: PLR2004
    return tuple(sorted({device for device in named if type(device) is str}))


def claimed(sizes: Mapping[str, int], stored: Mapping[str, Storage], path: Path | str) -> dict[str, Storage]:
    """The storages that a pickle speaks of.

    Args:
        sizes: the bytes that it claims for each.
        stored: what the file has.
        path: the file, for errors.

    Raises:
        FormatError: one is not there, or has another size.
    """
    for key, size in sizes.items():
        found = stored.get(key)
        if found is None:
            raise FormatError(path, f"its pickle speaks of the storage '{key}', which is not there")
        if found.size != size:
            has = f"{size:,} bytes, of which the file has {found.size:,}"
            raise FormatError(path, f"its pickle claims that the storage '{key}' has {has}")
    return {key: stored[key] for key in sizes}


def used(tensors: Sequence[TensorInfo], storages: Mapping[str, Storage], stored: int, path: Path | str) -> int:
    """Bytes of storages that at least one tensor uses.

    Raises:
        FormatError: as `check_growth`.
    """
    check_growth(tensors, storages, stored, path)
    whole: dict[str, int] = {}
    partial: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        if tensor.nbytes == storages[tensor.storage].size and tensor.contiguous:
            whole[tensor.storage] = tensor.nbytes
        else:
            partial.setdefault(tensor.storage, []).append(tensor)
    rest = sum(_union(of_storage) for key, of_storage in partial.items() if key not in whole)
    return sum(whole.values()) + rest


def check_growth(tensors: Sequence[TensorInfo], storages: Mapping[str, Storage], stored: int, path: Path | str) -> None:
    """Compare what the tensors take when they are written out with what they take now.

    A deflated storage is inflated anew for each of its tensors.

    Raises:
        FormatError: it is many times the `stored` bytes of the file.
    """
    written_out = 0
    for tensor in tensors:
        storage = storages[tensor.storage]
        written_out += tensor.nbytes if storage.deflated is None else max(tensor.nbytes, storage.size)
    if written_out > MAX_GROWTH * stored + FREE_GROWTH:
        if any(storage.deflated is not None for storage in storages.values()):
            raise FormatError(path, f"its {stored:,} compressed bytes would be inflated to {written_out:,}")
        raise FormatError(path, f"its tensors repeat {stored:,} bytes until they take {written_out:,}")


def _union(tensors: Sequence[TensorInfo]) -> int:
    """Bytes of one storage that at least one of `tensors` uses."""
    stretches: list[tuple[int, int]] = []
    for tensor in {(one.dtype, one.offset, one.shape, one.stride): one for one in tensors}.values():
        stretches += strided.stretches(tensor, _MAX_STRETCHES - len(stretches))
    total = reached = 0
    for start, stop in sorted(stretches):
        total += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return total
