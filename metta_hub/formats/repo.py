"""The repo folder: a local folder that equals a published repo (POLICY-REPO.md describes it for other tools).

`checkpoints/index.json` lists every checkpoint and its files; one of them is the root. The root's weights stand in
`model.safetensors`, every other's in `checkpoints/NAME.safetensors`. What a checkpoint's original `.pt` held besides
tensors is in `checkpoints/NAME.recipe`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metta_hub import history, metadata, names, strict_json
from metta_hub import index as index_file
from metta_hub.checkpoint import Checkpoint, FileState, Findings, Origin, TensorInfo, Weights
from metta_hub.containers import copying, safetensors, torch_file
from metta_hub.errors import FormatError, MettaHubError, NotFoundError
from metta_hub.formats import files
from metta_hub.index import Entry, FileRecord, Index

FORMAT = "repo folder"
#: Where config.json's block lists the files that somebody else wrote.
KEPT = "kept"


def sniff(path: Path) -> bool:
    """Whether the path is a folder with an index of checkpoints."""
    return (path / names.INDEX).is_file()


def read_index(folder: Path) -> Index:
    """The index of a repo folder.

    Raises:
        FormatError: it is not one that we can believe.
    """
    path = folder / names.INDEX
    return index_file.parse(files.read_document(path))


def read(path: Path, name: str | None = None, *, original: bool = True) -> Checkpoint:
    """Read a checkpoint of a repo folder.

    Args:
        path: the folder.
        name: which; the root when none is given.
        original: take the author's `.pt`, or the recipe that gives it back; else the mirror alone.

    Raises:
        NotFoundError: the folder lacks the checkpoint or one of its files.
        FormatError: a file is damaged.
    """
    index = read_index(path)
    entry = history.select(index, name).entry
    document = path / names.metadata_file(entry.name)
    read = FileState.of(document)
    known = metadata.parse(files.read_document(document), document)
    pt = recipe = None
    if original:
        pt = _first_there(path, entry, (names.root_pt, names.stored_pt))
        recipe = None if pt else _first_there(path, entry, (names.recipe_file,))
    # A partial folder will do: the `.pt`, or the mirror with the recipe if there is one.
    needed = (names.metadata_file(entry.name),) if pt else _without_pt(entry, original=original)
    for file in needed:
        if not (path / file).is_file():
            raise NotFoundError(file, f"{path} lacks {file}, which its index lists.")
    container, weights, sources, findings = _read_weights(path, entry, known.block, pt)
    sources |= {document: read} | ({recipe: FileState.of(recipe)} if recipe else {})
    return Checkpoint(
        name=entry.name,
        weights=weights,
        metadata=known,
        origin=Origin(
            path=path,
            format=FORMAT,
            container=container,
            sources=sources,
            findings=findings,
            pt=pt,
            recipe=recipe,
        ),
    )


def needed_to_rebuild(entry: Entry, *, original: bool = True) -> tuple[str, ...]:
    """The files that give a checkpoint's pair back with the fewest bytes: its `.pt`, or mirror and recipe.

    Without its `original` the mirror alone: a `.pt` is then made from the tensors.
    """
    if not original:
        return _without_pt(entry, original=False)
    for pt in (names.root_pt(entry.name), names.stored_pt(entry.name)):
        if pt in entry.files:
            return (names.metadata_file(entry.name), pt)
    return _without_pt(entry, original=True)


def weights_path(entry: Entry) -> str:
    """Where a checkpoint's safetensors weights stand.

    Raises:
        FormatError: the index lists none.
    """
    for path in (names.ROOT_WEIGHTS, names.weights_file(entry.name)):
        if path in entry.files:
            return path
    raise FormatError(names.INDEX, f"it lists no weights for {entry.name}")


# --- documents ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigState:
    """What a config.json says of the repo, as far as it can be believed.

    Attributes:
        intact: whether the document is byte for byte what its own hash says.
        checkpoint: NAME of the root.
        files: path → size and sha256 of the files that stood beside it when it was written.
        kept: those of them that somebody else wrote, and metta-hub leaves alone.
        reason: why it is not intact; empty when it is.
    """

    intact: bool
    checkpoint: str
    files: Mapping[str, FileRecord]
    kept: frozenset[str] = frozenset()
    reason: str = ""


def config_document(
    known: metadata.Metadata, *, name: str, block: Mapping[str, Any], listed: Mapping[str, FileRecord]
) -> bytes:
    """config.json: a flat view of the root's metadata, and the block `metta_hub`.

    `metta_hub.files` holds the hash of every file that is published with it, `metta_hub.self` the hash of the
    document without that key: together they make any changed byte of the repo show.
    """
    view = metadata.config_view(known)
    own: dict[str, Any] = {
        **block,
        "format_version": metadata.FORMAT_VERSION,
        "checkpoint": name,
        "files": {path: {"size": f.size, "sha256": f.sha256} for path, f in sorted(listed.items())},
    }
    if view.held:
        own["held"] = view.held
    document = {**view.values, "metta_hub": own}
    own["self"] = hashlib.sha256(_sorted_json(document)).hexdigest()
    return _sorted_json(document)


def parse_config(content: bytes) -> ConfigState:
    """Read a config.json back and check it against its own hash."""
    try:
        document: Any = strict_json.loads(content, names.CONFIG).value
        own = document["metta_hub"]
        stated = own.pop("self")
        listed = {str(path): FileRecord(int(f["size"]), str(f["sha256"])) for path, f in own["files"].items()}
        name, kept = str(own["checkpoint"]), frozenset(map(str, own.get(KEPT, ())))
    except (MettaHubError, LookupError, TypeError, ValueError, AttributeError) as error:
        return ConfigState(intact=False, checkpoint="", files={}, reason=f"not written by metta-hub ({error!r})")
    if hashlib.sha256(_sorted_json(document)).hexdigest() != stated:
        return ConfigState(
            intact=False,
            checkpoint=name,
            files=listed,
            reason="its content has changed since it was published",
        )
    own["self"] = stated
    if _sorted_json(document) != content:
        return ConfigState(
            intact=False,
            checkpoint=name,
            files=listed,
            reason="its bytes have changed since it was published",
        )
    return ConfigState(intact=True, checkpoint=name, files=listed, kept=kept)


def _sorted_json(document: Mapping[str, Any]) -> bytes:
    return strict_json.dumps(dict(document), sort_keys=True)


# --- reading ------------------------------------------------------------------------------------------------------


def _without_pt(entry: Entry, *, original: bool) -> tuple[str, ...]:
    wanted = [names.metadata_file(entry.name), weights_path(entry)]
    wanted += [names.recipe_file(entry.name)] if original else []
    return tuple(file for file in wanted if file in entry.files)


def _first_there(folder: Path, entry: Entry, places: Sequence[Any]) -> Path | None:
    candidates = (place(entry.name) for place in places)
    return next((folder / path for path in candidates if path in entry.files and (folder / path).is_file()), None)


def _read_weights(
    folder: Path, entry: Entry, block: Mapping[str, Any], pt: Path | None
) -> tuple[str, Weights, dict[Path, FileState], Findings | None]:
    if pt is not None:
        sources = {pt: FileState.of(pt)}
        opened = torch_file.read(pt)
        return opened.container, opened.weights, sources, opened.findings
    mirror = folder / weights_path(entry)
    sources = {mirror: FileState.of(mirror)}
    weights = safetensors.read(mirror)
    tied = tie_listed(weights, block)
    if tied.tied:
        _check_ties(weights, tied)
    return safetensors.CONTAINER, tied, sources, None


def tie_listed(weights: Weights, block: Mapping[str, Any]) -> Weights:
    """Make the names of each listed group share one storage, as they did in the policy.

    A mirror holds a tied tensor once under each name; `read` checks that the copies are equal before it ties them.

    Raises:
        FormatError: a group names tensors that are not there, or of different dtype or shape.
    """
    renamed: dict[str, TensorInfo] = {}
    for group in block.get("tied", ()):
        first, *others = (_tensor(weights, name) for name in group)
        for other in others:
            if (first.dtype, first.shape) != (other.dtype, other.shape):
                raise FormatError(
                    _file_of(weights), f"'{first.name}' and '{other.name}' are listed as tied, but differ"
                )
            renamed[other.name] = first._replace(name=other.name)
    tensors = tuple(renamed.get(tensor.name, tensor) for tensor in weights.tensors)
    used = {tensor.storage for tensor in tensors}
    return Weights(tensors, {key: storage for key, storage in weights.storages.items() if key in used})


def _check_ties(mirror: Weights, tied: Weights) -> None:
    """That copies of a tied tensor are equal is checked, not believed: a policy gets one tensor for all of them."""
    differing = [result.name for result in copying.compare(mirror, tied) if not result.equal]
    if differing:
        raise FormatError(
            _file_of(mirror), f"'{differing[0]}' is listed as tied to another tensor, but differs from it"
        )


def _tensor(weights: Weights, name: str) -> TensorInfo:
    try:
        return weights.by_name[name]
    except KeyError:
        raise FormatError(_file_of(weights), f"there is no tensor '{name}', which is listed as tied") from None


def _file_of(weights: Weights) -> Path | str:
    return next((storage.path for storage in weights.storages.values()), "the weights")
