"""The checks that `verify` is made of. Each says what it looked at, and compares; none repairs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub import disk, formats, metadata, names, strict_json
from metta_hub import index as index_file
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import count
from metta_hub.checkpoint import Checkpoint, Weights
from metta_hub.containers import copying, object_file, recipe, safetensors, torch_file, torch_zip
from metta_hub.containers.copying import Written
from metta_hub.errors import (
    FormatError,
    HubAccessError,
    HubUnreachableError,
    MettaHubError,
    NoRoomError,
    NotAHubError,
    RateLimitError,
)
from metta_hub.formats import bundle, files
from metta_hub.formats import repo as repo_format
from metta_hub.index import Entry, FileRecord
from metta_hub.metadata import Metadata
from metta_hub.names import CARD, CONFIG, INDEX, PROBE

ATTRIBUTES = ".gitattributes"
#: What says nothing of the files that are checked, but of the way to them.
NO_VERDICT = (HubUnreachableError, HubAccessError, RateLimitError, NotAHubError, NoRoomError)


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        name: what was looked at: a file, or a checkpoint and an aspect of it.
        ok: the verdict; None when there was nothing to compare with.
        detail: one sentence.
    """

    name: str
    ok: bool | None
    detail: str


def attempt(name: str, look: Callable[[], Check]) -> Check:
    """Run a check; what stops it from being made is its failure, unless that says nothing of what is looked at.

    Raises:
        MettaHubError: one of `NO_VERDICT`.
    """
    try:
        return look()
    except NO_VERDICT:
        raise
    except (MettaHubError, OSError) as error:
        return Check(name, ok=False, detail=" ".join(str(error).split()))


# --- a repo ---------------------------------------------------------------------------------------------------------


def check_transfer(repo: RepoCommit, path: str) -> Check:
    """What the Hub sends now is what its own tree says; what lies in the cache is replaced, not believed."""

    def look() -> Check:
        fetched, known = repo.fetch(path, anew=True), repo.tree[path]
        content = files.read_document(fetched) if known.sha256 is None else None
        written = copying.digest(fetched)
        same = known.holds(written.size, written.sha256, content)
        said = "as in the Hub's tree" if same else f"{path} is not what the Hub's own tree says: its hash differs"
        return Check(f"{path}: as sent", same, said)

    return attempt(f"{path}: as sent", look)


def check_front(folder: Path, *, whole: bool) -> Iterator[Check]:
    """config.json against its own hash, and the files that it lists besides a checkpoint's; all of them if `whole`."""
    path = folder / CONFIG
    if not path.is_file():
        yield Check(CONFIG, ok=False, detail=f"{CONFIG} is missing")
        return
    config = repo_format.parse_config(files.read_document(path))
    yield Check(CONFIG, config.intact, config.reason or "intact")
    for beside in (CARD, INDEX, PROBE):
        if beside in config.files:
            yield check_file(folder, beside, config.files[beside])
    if whole and ATTRIBUTES in config.files:
        yield attempt(ATTRIBUTES, lambda: _check_attributes(folder, config.files[ATTRIBUTES]))


def fronts(folder: Path) -> set[str]:
    """The files that belong to the repo and to no single checkpoint."""
    path = folder / CONFIG
    listed = repo_format.parse_config(files.read_document(path)).files if path.is_file() else {}
    return {CONFIG, CARD, INDEX, ATTRIBUTES} | (listed.keys() & {PROBE})


def _check_attributes(folder: Path, record: FileRecord) -> Check:
    """The Hub may add lines to this file, for the files of the very commit that lists it; it changes none."""
    content = files.read_document(folder / ATTRIBUTES)
    if len(content) > record.size and copying.digest_bytes(content[: record.size]).sha256 == record.sha256:
        return Check(ATTRIBUTES, None, "the Hub added lines to it")
    return check_file(folder, ATTRIBUTES, record)


def check_file(folder: Path, path: str, record: FileRecord) -> Check:
    """One file against its recorded size and sha256."""

    def look() -> Check:
        if not (folder / path).is_file():
            return Check(path, ok=False, detail=f"{path} is missing")
        written = copying.digest(folder / path)
        if written.size != record.size:
            return Check(path, ok=False, detail=f"{path} has {written.size:,} bytes, recorded are {record.size:,}")
        same = written.sha256 == record.sha256
        detail = (
            "size and sha256 as recorded" if same else f"{path} has changed since it was published: its sha256 differs"
        )
        return Check(path, same, detail)

    return attempt(path, look)


def check_checkpoint(folder: Path, entry: Entry, scratch: Path) -> Iterator[Check]:
    """A checkpoint's metadata against the index, and its mirror against its original `.pt`."""
    document = names.metadata_file(entry.name)
    yield attempt(f"{document}: metadata", lambda: _check_metadata(folder, entry, document))
    mirror = repo_format.weights_path(entry)
    yield attempt(f"{mirror}: mirror", lambda: _check_mirror(folder, entry, mirror, scratch))


def check_root(folder: Path, entry: Entry) -> Check:
    """config.json shows the metadata of the checkpoint that it names."""

    def look() -> Check:
        config = strict_json.loads(files.read_document(folder / CONFIG), CONFIG).value
        document = folder / names.metadata_file(entry.name)
        view = metadata.config_view(metadata.parse(files.read_document(document), document)).values
        shown = {key: value for key, value in config.items() if key != "metta_hub"} if isinstance(config, dict) else {}
        differing = sorted(key for key in shown.keys() | view.keys() if shown.get(key) != view.get(key))
        detail = (
            f"{CONFIG} differs from {document.name} in {', '.join(differing)}" if differing else f"shows {entry.name}"
        )
        return Check(f"{CONFIG}: metadata", not differing, detail)

    return attempt(f"{CONFIG}: metadata", look)


def _check_metadata(folder: Path, entry: Entry, document: str) -> Check:
    known = metadata.parse(files.read_document(folder / document), folder / document)
    expected = index_file.entry_of(
        entry.name, known, parameters=entry.parameters, files=entry.files, published_at=entry.published_at
    )
    detail = "as the index says" if expected == entry else f"{document} and {INDEX} disagree"
    return Check(f"{document}: metadata", expected == entry, detail)


def _check_mirror(folder: Path, entry: Entry, mirror: str, scratch: Path) -> Check:
    name = f"{mirror}: mirror"
    document = names.metadata_file(entry.name)
    block = metadata.parse(files.read_document(folder / document), folder / document).block
    weights = repo_format.tie_listed(safetensors.read(folder / mirror), block)
    original = _original(folder, entry, weights, block, scratch)
    if original is None:
        return Check(name, None, f"{len(weights.tensors)} tensors; no original .pt to compare with")
    differing = differences(original, weights)
    if differing:
        return Check(name, ok=False, detail=f"{mirror} differs from the original .pt: {'; '.join(differing[:3])}")
    number = len(weights.tensors)
    return Check(name, ok=True, detail=f"equals the original .pt in {number} of {number} tensors")


def _original(
    folder: Path, entry: Entry, weights: Weights, block: Mapping[str, metadata.JSON], scratch: Path
) -> Weights | None:
    """The original's weights table: from the `.pt` that is there, or the one that the recipe gives back."""
    kept = names.recipe_file(entry.name)
    if kept in entry.files:
        recorded = block.get("weights")
        what = f"the original of {entry.name}"
        with disk.writing(scratch.parent.parent, weights.nbytes, what=what, hint=disk.ELSEWHERE):
            restored = recipe.restore(files.read_document(folder / kept), weights, scratch)
        if not isinstance(recorded, dict) or restored.sha256 != recorded.get("sha256"):
            raise FormatError(folder / kept, "it does not give back the .pt that the metadata name")
        return torch_file.read(scratch).weights
    for place in (names.root_pt, names.stored_pt):
        if place(entry.name) in entry.files:
            return torch_file.read(folder / place(entry.name)).weights
    return None


# --- local files ----------------------------------------------------------------------------------------------------


def check_local(path: Path) -> Iterator[Check]:
    """A local checkpoint: its structure, the checksums inside, and the hash that its metadata record.

    Raises:
        FormatError: a folder is no checkpoint at all.
    """
    try:
        checkpoint = formats.read(path)
    except (MettaHubError, OSError) as error:
        if path.is_dir() and not bundle.sniff(path):  # of no kind that can be damaged
            raise
        yield Check(path.name, ok=False, detail=" ".join(str(error).split()))
        return
    weights, file = checkpoint.weights, checkpoint.origin.path.name
    yield Check(file, ok=True, detail=f"{checkpoint.origin.format}, {count(len(weights.tensors), 'tensor')}")
    read = [
        attempt(f"{file}: checksums", lambda: _check_sums(checkpoint, file)),
        attempt(f"{file}: recorded hash", lambda: _check_recorded(checkpoint, file)),
    ]
    changed = checkpoint.origin.changed()
    if changed is not None:  # and what was read of it may be of two files
        detail = f"{changed.name} changed while it was being verified; run the same command again"
        read = [Check(f"{changed.name}: unchanged", ok=False, detail=detail)]
    yield from read


def _check_sums(checkpoint: Checkpoint, file: str) -> Check:
    name = f"{file}: checksums"
    if checkpoint.origin.format in {bundle.FORMAT, bundle.MPT}:
        recorded = bundle.check_sums(checkpoint)
        return Check(name, recorded or None, "every CRC-32 is right" if recorded else "the files record none")
    if all(storage.crc32 is None for storage in checkpoint.weights.storages.values()):
        return Check(name, None, "the file records none")
    if checkpoint.origin.container == object_file.PACKAGE:
        object_file.check_sums(checkpoint.origin.path)
    else:
        torch_zip.check_sums(checkpoint.origin.path)
    return Check(name, ok=True, detail="every CRC-32 is right")


def _check_recorded(checkpoint: Checkpoint, file: str) -> Check:
    name = f"{file}: recorded hash"
    recorded = checkpoint.metadata.block.get("weights")
    if not isinstance(recorded, dict):
        return Check(name, None, "the metadata record none")
    same = copying.digest(checkpoint.origin.path) == Written(int(str(recorded["size"])), str(recorded["sha256"]))
    return Check(
        name,
        same,
        "size and sha256 as recorded" if same else f"{file} is not the file that its JSON describes",
    )


# --- two checkpoints --------------------------------------------------------------------------------------------------


def differences(one: Weights, other: Weights) -> list[str]:
    """What differs between two tables of weights, a sentence each: names, dtypes, shapes, bits, tying."""
    found = [f"'{name}' is only in one" for name in sorted(one.by_name.keys() ^ other.by_name.keys())]
    if not found:
        found = [f"'{result.name}' {result.detail}" for result in copying.compare(one, other) if not result.equal]
    groups = ({frozenset(group) for group in weights.tied} for weights in (one, other))
    if not found and next(groups) != next(groups):
        found = ["other names are tied"]
    return found


def check_weights_equal(one: Weights, other: Weights) -> Check:
    """Tensor by tensor: dtype, shape, bits, tying."""
    found = differences(one, other)
    number = len(one.tensors)
    return Check("tensors", not found, "; ".join(found[:3]) or f"equal in {number} of {number}")


def check_metadata_equal(one: Metadata, other: Metadata) -> Check:
    """Value by value, but for `uri`, which says where a file lies, and what metta_hub added to one of them alone."""
    mine, theirs = metadata.without_added(one, other.values), metadata.without_added(other, one.values)
    differing = sorted(key for key in mine.keys() | theirs.keys() if key != "uri" and mine.get(key) != theirs.get(key))
    return Check("metadata", not differing, f"differ in {', '.join(differing)}" if differing else "equal but for uri")
