"""The pair: `NAME.pt`, a plain state dict, and `NAME.json`, its metadata (Metta's checkpoint format).

The two files are put in place one after the other: both complete under temporary names and on the disk, then `.pt`
renamed, then the JSON, which names its weights' size and sha256. A reader that comes between the two renames finds
the finished temporary JSON that names the `.pt` it sees, and takes that; the next writer finishes the rename.
Writers of one pair rename one after the other; a reader whose files were renamed meanwhile reads again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metta_hub import containers, interrupts, metadata, names
from metta_hub.checkpoint import Checkpoint, FileState, Origin
from metta_hub.containers import copying, torch_file
from metta_hub.containers.copying import Written
from metta_hub.errors import ChecksumError, ConflictError, FormatError, MettaHubError, SourceChangedError
from metta_hub.formats import files, originals

FORMAT = "pair"
#: How often a pair is read that changes while it is being read.
LOOKS = 10
#: Names of temporary files, as `files.temporary_name` makes them, and the pair that they are of.
_TEMPORARY = re.compile(rf"\.(.+)\.(?:pt|json)\.[^.]+{re.escape(files.SUFFIX)}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PairFiles:
    """A pair on disk.

    Attributes:
        pt: the weights.
        json: the metadata.
        weights: size and sha256 of `pt`.
        document: size and sha256 of `json`.
        identical: whether `pt` is byte for byte the author's file; False when it was rebuilt from the tensors.
    """

    pt: Path
    json: Path
    weights: Written
    document: Written
    identical: bool


def sniff(path: Path) -> bool:
    """Whether the path is one file of a pair whose other file is there too."""
    if path.suffix not in {".pt", ".json"}:
        return False
    pt = path.with_suffix(".pt")
    if not pt.is_file() or not (_json_of(pt).is_file() or _document_for(pt).is_file()):
        return False
    return containers.sniff(pt) in torch_file.CONTAINERS


def find(folder: Path) -> list[Path]:
    """The `.pt` of every complete pair directly in a folder, by name; one that we may not read counts by its name."""
    return [path for path in sorted(folder.glob("*.pt")) if _is_of_pair(path)]


def _is_of_pair(pt: Path) -> bool:
    try:
        return sniff(pt)
    except PermissionError:
        return _json_of(pt).is_file()


def read(path: Path) -> Checkpoint:
    """Read a pair, given either of its files.

    Raises:
        FormatError: a file is damaged, the `.pt` is not plain, or the JSON describes another `.pt`.
        MetadataError: the JSON cannot be what it says it is.
        SourceChangedError: somebody keeps writing to it.
    """
    pt = path.with_suffix(".pt")
    return _while_still(pt, lambda: _read(pt))


def read_metadata(path: Path) -> metadata.Metadata:
    """Read only the metadata of a pair, given its `.pt`.

    Raises:
        MetadataError: the JSON cannot be what it says it is.
        SourceChangedError: somebody keeps writing to it.
    """
    return _while_still(path, lambda: _read_metadata(_document_for(path)))


def write(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    block: Mapping[str, Any],
    force: bool = False,
) -> PairFiles:
    """Write a checkpoint as a pair, both files or neither; a pair that is there already and equal is left alone.

    Args:
        checkpoint: what to write; `metadata.values["uri"]` becomes the file that is written.
        folder: where; it is made when it is not there.
        block: what to say under `metta_hub`, besides the weights' size and sha256.
        force: replace other content.

    Raises:
        ConflictError: other content is there, and `force` was not given.
        ChecksumError: the original `.pt` is not the one that the metadata name.
        NotPlainError: the recipe gives back a `.pt` that asks for more than tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tidy(folder.resolve())
    return write_one(checkpoint, folder / f"{checkpoint.name}.pt", block=block, force=force)


def write_one(
    checkpoint: Checkpoint,
    pt: Path,
    *,
    block: Mapping[str, Any],
    force: bool = False,
    before: Callable[[Path, Path], None] | None = None,
) -> PairFiles:
    """Write one of many pairs: as `write`, into a folder that is there and that the caller has tidied.

    Args:
        checkpoint: as for `write`.
        pt: its `.pt`, whatever it is called.
        block: as for `write`.
        force: as for `write`.
        before: called with the two complete files, under temporary names, when only the renames are left to do; what
            it raises stops the write.

    Raises:
        MettaHubError: as `write`.
    """
    target = pt.parent.resolve() / pt.name
    token = files.new_token()
    new_pt, new_json = (files.temporary_name(file, token) for file in (target, _json_of(target)))
    try:
        with files.owned(new_pt), files.owned(new_json) as document:
            weights, identical = originals.write_pt(checkpoint, new_pt)
            if identical:
                _check_recorded(checkpoint, target, weights)
            content = _document(checkpoint, target, weights, block)
            found = PairFiles(target, _json_of(target), weights, copying.digest_bytes(content), identical)
            if _is_there(found, content, force=force):
                return found
            document.write(content)
            document.flush()
            for path in (new_pt, new_json, target.parent):
                files.sync(path)
            with _alone(target):
                if not _is_there(found, content, force=force):  # as somebody else may have left it meanwhile
                    if before is not None:
                        before(new_pt, new_json)
                    _rename(new_pt, new_json, found)
    finally:
        # When the `.pt` is in its place, only the JSON beside it says what it is: that one stays until it is renamed.
        if new_pt.exists():
            new_json.unlink(missing_ok=True)
            new_pt.unlink(missing_ok=True)
    return found


def tidy(folder: Path) -> None:
    """Finish, or remove, what writers that died left of any pair in a folder."""
    for begun in _begun_in(folder):
        finish_interrupted(begun)


def finish_interrupted(pt: Path) -> None:
    """Finish what a writer that died left beside a pair: complete its rename, or remove its temporary files."""
    document = _json_of(pt)
    if not files.leftovers(document) and not files.leftovers(pt):
        return
    with _alone(pt), files.abandoned(files.leftovers(document)) as documents:
        finished = _finished(documents, pt)
        if finished is not None:
            finished.replace(document)
            files.sync(pt.parent)
        with files.abandoned(files.leftovers(pt)) as weights:
            for file in (*documents, *weights):
                file.unlink(missing_ok=True)


def _begun_in(folder: Path) -> list[Path]:
    """The `.pt` of every pair of a folder of which there are temporary files, by name."""
    found = (_TEMPORARY.fullmatch(path.name) for path in folder.glob(f".*{files.SUFFIX}"))
    return [folder / f"{name}.pt" for name in sorted({match[1] for match in found if match})]


def _alone(pt: Path) -> AbstractContextManager[None]:
    """Keep other writers of a pair from renaming."""
    return files.locked(files.temporary_name(pt, "lock"))


def _rename(new_pt: Path, new_json: Path, found: PairFiles) -> None:
    """Put both files in place; after a power failure, too, the second is renamed only if the first is."""
    with interrupts.held():
        new_pt.replace(found.pt)
        files.sync(found.pt.parent)
        new_json.replace(found.json)
        files.sync(found.pt.parent)


# --- reading ----------------------------------------------------------------------------------------------------


def _json_of(pt: Path) -> Path:
    return pt.with_suffix(".json")


def _while_still(pt: Path, look: Callable[[], T]) -> T:
    """Look at a pair until nobody renames its files meanwhile: those of before and after don't belong together.

    Raises:
        SourceChangedError: it changes again and again.
    """
    missing: FileNotFoundError | None = None
    for _ in range(LOOKS):
        before = _state(pt)
        try:
            found = look()
        except FileNotFoundError as error:  # perhaps a temporary JSON that was renamed or removed meanwhile
            missing = error
            continue
        except (MettaHubError, OSError):
            if before == _state(pt):
                raise
            continue
        if before == _state(pt):
            return found
    raise missing or SourceChangedError(
        pt,
        "it changed again and again while it was being read",
        hint="run the same command again when nobody writes to it",
    )


def _state(pt: Path) -> tuple[FileState | None, FileState | None]:
    return FileState.if_any(pt), FileState.if_any(_json_of(pt))


def _read(pt: Path) -> Checkpoint:
    document = _document_for(pt)
    sources = {file: FileState.of(file) for file in (pt, document)}
    opened = torch_file.read(pt)
    known = _read_metadata(document)
    _check_size(pt, known.block, sources[pt].size)
    return Checkpoint(
        name=names.checkpoint_name(pt.stem),
        weights=opened.weights,
        metadata=known,
        origin=Origin(
            path=pt,
            format=FORMAT,
            container=opened.container,
            sources=sources,
            findings=opened.findings,
            pt=pt,
            unused_bytes=opened.unused_bytes,
            warnings=opened.warnings,
        ),
    )


def _read_metadata(document: Path) -> metadata.Metadata:
    return metadata.parse(files.read_document(document), document)


def _document_for(pt: Path) -> Path:
    """The JSON that describes this `.pt`: `NAME.json`, unless a write was cut off between its two renames."""
    document = _json_of(pt)
    return _finished(files.leftovers(document), pt) or document


def _finished(left: Sequence[Path], pt: Path) -> Path | None:
    """The newest of some temporary JSONs that describe the `.pt` that is there, unless `NAME.json` does."""
    if not left or not pt.is_file():
        return None
    written = copying.digest(pt)
    if _names(_json_of(pt), written):
        return None
    fitting = [file for file in left if _names(file, written)]
    return max(fitting, key=lambda file: file.stat().st_mtime_ns, default=None)


def _names(document: Path, written: Written) -> bool:
    """Whether a JSON says that it describes weights of this size and hash."""
    try:
        block = _read_metadata(document).block
    except (MettaHubError, OSError):
        return False
    weights = block.get("weights")
    return isinstance(weights, Mapping) and weights.get("sha256") == written.sha256


def _check_size(pt: Path, block: Mapping[str, Any], size: int) -> None:
    weights = block.get("weights")
    if isinstance(weights, Mapping) and weights.get("file") == pt.name and weights.get("size") != size:
        raise FormatError(
            pt,
            f"it has {size:,} bytes, but {_json_of(pt).name} describes a file of {weights.get('size'):,}",
            hint=f"one of the two was replaced; pull the pair again, or remove {_json_of(pt).name}",
        )


# --- writing ----------------------------------------------------------------------------------------------------


def _check_recorded(checkpoint: Checkpoint, target: Path, written: Written) -> None:
    """The author's own bytes are those that the metadata name, if they name any."""
    recorded = checkpoint.metadata.block.get("weights")
    if not isinstance(recorded, Mapping) or recorded.get("file") != target.name:
        return
    if (recorded.get("size"), recorded.get("sha256")) != (written.size, written.sha256):
        raise ChecksumError(
            checkpoint.origin.path, target.name, f"its {target.name} is not the file that its metadata name by sha256"
        )


def _document(checkpoint: Checkpoint, pt: Path, weights: Written, block: Mapping[str, Any]) -> bytes:
    values = {**checkpoint.metadata.values, "uri": f"file://{pt}"}
    own = {**block, "weights": {"file": pt.name, "size": weights.size, "sha256": weights.sha256}}
    return metadata.dumps({**values, "metta_hub": own})


def _is_there(found: PairFiles, content: bytes, *, force: bool) -> bool:
    """Whether the pair is there already, as it would be written.

    Raises:
        ConflictError: something else is there, and may not be replaced.
    """
    if _same(found, content):
        return True
    there = [file for file in (found.pt, found.json) if file.exists() or file.is_symlink()]
    for file in there:
        if file.is_dir():
            raise ConflictError(str(file), f"{file} is a folder.", hint="pull into another folder")
    if there and not force:
        named = " and ".join(file.name for file in there)
        raise ConflictError(
            str(found.pt),
            f"{named} in {found.pt.parent} hold{'s' if len(there) == 1 else ''} something else.",
            hint="--force replaces them; or pull into another folder",
        )
    return False


def _same(found: PairFiles, content: bytes) -> bool:
    try:
        return found.json.read_bytes() == content and copying.digest(found.pt) == found.weights
    except OSError:
        return False
