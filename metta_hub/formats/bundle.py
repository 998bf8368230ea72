"""The bundle: today's Metta checkpoint, `policy_spec.json` and the weights that it names, in a folder or a zip.

Its predecessor `.mpt`, a zip with `modelarchitecture.txt` and the weights, is read as the bundle that it stands for.
The name `RUN:vN` is all that says of which run and epoch it is. A folder with several checkpoints is a run, and no
bundle, though the run's spec lies in it: that is the bundle of the last one, and is named by the path of the spec.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from metta_hub import containers, metadata, names
from metta_hub.block import FORMAT_VERSION
from metta_hub.checkpoint import Checkpoint, FileState, Origin
from metta_hub.containers import copying, packed, safetensors, torch_file, torch_zip, zips
from metta_hub.containers.packed import Packed
from metta_hub.containers.zip_records import Member
from metta_hub.containers.zips import Archive, Read
from metta_hub.errors import FormatError, MettaHubError
from metta_hub.formats import bundle_spec, files
from metta_hub.formats.bundle_spec import ARCHITECTURE, SPEC
from metta_hub.formats.bundle_writer import ZIP, BundleFiles, write
from metta_hub.metadata import JSON, Metadata, Repair

__all__ = ["FORMAT", "MPT", "BundleFiles", "check_sums", "find", "read", "sniff", "write"]

FORMAT, MPT = "bundle", ".mpt"
#: What the names of zipped ones end in.
_ENDINGS = frozenset({ZIP, MPT})
#: What Metta calls the optimizer's state, which may be of another epoch.
TRAINER_STATE = "trainer_state.pt"
#: Most files in a bundle, and the last bytes of a zip in which its directory is looked for.
MAX_FILES = 10_000
_TAIL = 2 << 20
#: The weights of an `.mpt`; the oldest have a pickle.
_MPT_WEIGHTS = ("weights.safetensors", "policy.pt")
_TOGETHER = "the spec and its weights lie together; copy the bundle once more, as a whole"
_CENTRAL = 46
_LINK = 0o120000
_KIND = 0o170000


def sniff(path: Path) -> bool:
    """Whether the path is a bundle: a folder, a zip, or the spec in a folder."""
    if path.is_dir():
        return (path / SPEC).is_file() and not are_a_run(os.listdir(path))  # noqa: PTH208  (names are enough)
    if path.name == SPEC:
        return path.is_file()
    return path.is_file() and containers.sniff(path) == "zip" and any(_has_member(path, (SPEC, ARCHITECTURE)))


def find(folder: Path) -> list[Path]:
    """The bundles directly in a folder, by name; one that we may not read counts by its name."""
    named = (path for path in sorted(folder.iterdir()) if path.suffix in _ENDINGS or path.is_dir())
    return [path for path in named if _is_one(path)]


def _is_one(path: Path) -> bool:
    try:
        return sniff(path)
    except PermissionError:
        return path.suffix in _ENDINGS


def read(path: Path) -> Checkpoint:
    """Read a bundle.

    Raises:
        NotPlainError: its weights are a pickle that asks for more than tensors.
        FormatError: it is damaged, holds code or runs some, or leads out of itself.
        MetadataError: its spec cannot be what it says it is.
    """
    if path.name == SPEC and not path.is_dir():
        return _read_folder(path.parent)
    return _read_folder(path) if path.is_dir() else _read_zip(path)


def check_sums(checkpoint: Checkpoint) -> bool:
    """Read all of a bundle that has checksums, and compare them; False when it has none.

    Raises:
        ChecksumError: one differs.
        FormatError: it is damaged.
    """
    origin = checkpoint.origin
    if not origin.path.is_dir():
        with _opened(origin.path) as (_, archive):
            copying.verify({member.name: torch_zip.stored(origin.path, member) for member in archive.members})
        return archive.checksummed
    if origin.pt is None or origin.container != torch_zip.CONTAINER:
        return False
    torch_zip.check_sums(origin.pt)
    return True


# --- a folder -----------------------------------------------------------------------------------------------------


def are_a_run(names_here: Iterable[str]) -> bool:
    """Whether files, by their names, are several checkpoints: then the spec beside them is that of the last one."""
    return sum(name.endswith(".pt") and name != TRAINER_STATE for name in names_here) > 1


def _read_folder(folder: Path) -> Checkpoint:
    check_entries(entries_in(folder), folder)
    sources = {folder / SPEC: FileState.of(folder / SPEC)}
    spec, repairs = bundle_spec.parse(files.read_document(folder / SPEC), folder / SPEC)
    data = bundle_spec.data_path(spec, folder / SPEC)
    weights = folder / data
    if not weights.is_file():
        raise FormatError(folder / SPEC, f"its data_path '{data}' names a file that is not there", hint=_TOGETHER)
    sources[weights] = FileState.of(weights)
    found = _weights_in(weights)
    identity = _Identity.of(folder, data)
    more, state = _trained(folder, identity, data)
    return Checkpoint(
        name=names.checkpoint_name(identity.label),
        weights=found.weights,
        metadata=_metadata(spec, repairs, identity, more),
        origin=Origin(
            path=folder,
            format=FORMAT,
            container=found.container,
            sources=sources | state,
            findings=found.findings,
            pt=weights if found.container in torch_file.CONTAINERS else None,
            unused_bytes=found.unused_bytes,
            warnings=found.warnings,
        ),
    )


def entries_in(folder: Path) -> Iterator[tuple[str, bool]]:
    """What lies in a folder, at any depth: each path from there on, and whether it is a link that leads out.

    The folder itself may be reached through a link.
    """
    top = Path(os.path.realpath(folder))
    for here, folders, names_here in os.walk(folder):
        for name in (*folders, *names_here):
            entry = Path(here, name)
            leads_out = entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(top)
            yield str(entry.relative_to(folder)), leads_out


def check_entries(entries: Iterable[tuple[str, bool]], folder: Path | str) -> None:
    """Refuse code, links that lead out, and more than a bundle can need; `entries` as `entries_in` gives them.

    Raises:
        FormatError: there is such a thing.
    """
    for count, (name, leads_out) in enumerate(entries):
        if count >= MAX_FILES:
            raise FormatError(folder, f"it holds more than {MAX_FILES:,} files; a bundle holds a few")
        bundle_spec.check_names([name], folder)
        if leads_out:
            hint = "a copy of the files will do: cp -rL"
            raise FormatError(folder, f"its '{name}' is a link that leads out of it", hint=hint)


def _weights_in(path: Path) -> Packed:
    container = containers.sniff(path)
    if container == safetensors.CONTAINER:
        return Packed(container, safetensors.read(path))
    if container in torch_file.CONTAINERS:
        opened = torch_file.read(path)
        return Packed(container, opened.weights, None, opened.findings, opened.unused_bytes, opened.warnings)
    raise FormatError(path, "it is neither a safetensors file nor one of torch.save")


# --- a zip --------------------------------------------------------------------------------------------------------


def _read_zip(path: Path) -> Checkpoint:
    sources = {path: FileState.of(path)}
    with _opened(path) as (read_, archive):
        members = members_of(archive, path)
        spec, repairs = spec_in(read_, archive, members, path)
        data = bundle_spec.data_path(spec, path / SPEC)
        member = members.get(str(data))
        if member is None:
            raise FormatError(path, f"its data_path '{data}' names a file that is not in it", hint=_TOGETHER)
        found = packed.look(read_, member, path)
    identity = _Identity.of(path, data)
    return Checkpoint(
        name=names.checkpoint_name(identity.label),
        weights=found.weights,
        metadata=_metadata(spec, repairs, identity, {}),
        origin=Origin(
            path=path,
            format=FORMAT if SPEC in members else MPT,
            container=found.container,
            sources=sources,
            findings=found.findings,
            packed=found.pt,
            unused_bytes=found.unused_bytes,
            warnings=found.warnings,
        ),
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Read, Archive]]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read_ = partial(os.pread, descriptor)
        yield read_, zips.look(read_, os.fstat(descriptor).st_size, path, zips.NOTES)
    finally:
        os.close(descriptor)


def members_of(archive: Archive, path: Path) -> Mapping[str, Member]:
    """The members of a zip by their names; none may lead elsewhere when it is unpacked.

    Raises:
        FormatError: one may, or is code, or there are too many.
    """
    if len(archive.members) > MAX_FILES:
        raise FormatError(path, f"it holds more than {MAX_FILES:,} files; a bundle holds a few")
    for member in archive.members:
        if member.mode & _KIND == _LINK:
            raise FormatError(path, f"its member '{member.name}' is a link", hint=bundle_spec.PACK)
        bundle_spec.check_member(member.name, path)
    bundle_spec.check_names([member.name for member in archive.members], path)
    return {member.name: member for member in archive.members}


def spec_in(
    read_: Read, archive: Archive, members: Mapping[str, Member], path: Path
) -> tuple[dict[str, JSON], tuple[Repair, ...]]:
    """The spec in a zip, or the one that stands for an `.mpt`.

    Raises:
        FormatError: it cannot be believed, or asks for what is refused.
        MetadataError: its JSON is damaged.
    """
    name = SPEC if SPEC in members else ARCHITECTURE
    member = members[name]
    if member.size > bundle_spec.LIMITS.size:
        raise FormatError(path / name, f"it has {member.size:,} bytes; {bundle_spec.LIMITS.size:,} is the limit")
    content = zips.read_member(read_, archive, member, path)
    if name == SPEC:
        return bundle_spec.parse(content, path / name)
    weights = next((one for one in _MPT_WEIGHTS if one in members), _MPT_WEIGHTS[0])
    return bundle_spec.of_architecture(content, weights, path / name), ()


def _has_member(path: Path, wanted: Sequence[str]) -> Iterator[bool]:
    """Whether a zip has such a member at its root: its directory, at the end, is searched and not yet believed."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
    for name in (one.encode() for one in wanted):
        at = tail.find(name)
        while at >= 0:
            entry = tail[max(0, at - _CENTRAL) : at]
            yield entry[:4] == b"PK\1\2" and int.from_bytes(entry[28:30], "little") == len(name)
            at = tail.find(name, at + 1)


# --- what it says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Identity:
    """What a bundle is called.

    Attributes:
        label: what NAME is made of.
        run: the run; None when the name does not say.
        epoch: the epoch; None when neither name says.
    """

    label: str
    run: str | None
    epoch: int | None

    @classmethod
    def of(cls, path: Path, data: PurePosixPath) -> "_Identity":
        """From the name by which it was reached, links or not; else from that of the weights, if that has an epoch."""
        called = os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119  (resolves no link)
        label = called if path.is_dir() else Path(called).stem
        if found := names.run_and_epoch(label):
            return cls(label, *found)
        epoch = names.epoch_in(data.stem)
        return cls(label if epoch is None else data.stem, None, epoch)


def _metadata(
    spec: Mapping[str, JSON], repairs: Sequence[Repair], identity: _Identity, more: Mapping[str, JSON]
) -> Metadata:
    facts: dict[str, JSON] = {} if identity.run is None else {"run_name": identity.run}
    facts |= {} if identity.epoch is None else {"epoch": identity.epoch}
    known = metadata.from_values({**facts, **more, **bundle_spec.metadata_values(spec)})
    block: dict[str, JSON] = {"format_version": FORMAT_VERSION}
    if names.checkpoint_name(identity.label) != identity.label:
        block["original_name"] = identity.label
    return replace(known, block=block, repairs=(*known.repairs, *repairs))


def _trained(
    folder: Path, identity: _Identity, data: PurePosixPath
) -> tuple[Mapping[str, JSON], dict[Path, FileState]]:
    """What the trainer's state in a folder tells of this very checkpoint, and the file; nothing if it is of another."""
    state = folder / TRAINER_STATE
    try:
        before, said = FileState.of(state), torch_file.look(state).root_object
        if type(said) is not dict:
            return {}, {}
        same_epoch = type(said.get("epoch")) is int and said["epoch"] == identity.epoch
        if not (same_epoch or said.get("model_name") == data.name):
            return {}, {}
        told = {key: said[key] for key in ("agent_step", "avg_reward") if type(said.get(key)) in {int, float}}
        return metadata.from_values(told).values, {state: before}
    except (MettaHubError, OSError):
        return {}, {}
