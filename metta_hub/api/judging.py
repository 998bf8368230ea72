"""What of a checkpoint may be published, and how: metadata completed and scrubbed, secrets refused. Builds nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from metta_hub import architecture, metadata, scrub, strict_json
from metta_hub.api import targets
from metta_hub.checkpoint import Checkpoint, Weights
from metta_hub.containers import packed, torch_file
from metta_hub.containers.torch_table import TorchFile
from metta_hub.containers.torch_zip import TorchZip
from metta_hub.errors import ArchitectureError, AssumptionError, FormatError, SecretError, UnknownArchitectureError
from metta_hub.formats import files
from metta_hub.metadata import JSON, Metadata
from metta_hub.policies import description
from metta_hub.scrub import Redaction


@dataclass(frozen=True)
class Publishable:
    """A checkpoint as the world may see it.

    Attributes:
        checkpoint: with clean metadata; the weights are the source's.
        block: what its document says under `metta_hub`, but for the weights.
        redactions: what was removed now, and where.
        uri: the metadata's own `uri` before publication; None when it had none.
    """

    checkpoint: Checkpoint
    block: Mapping[str, JSON]
    redactions: tuple[Redaction, ...]
    uri: str | None


#: Bytes of a `.pt` that belong to no tensor and are still published with it.
MAX_UNUSED = 1 << 20


@dataclass(frozen=True)
class Filling:
    """What the author adds to the metadata of a checkpoint.

    Attributes:
        settings: `key=value` texts.
        metadata_file: a JSON file whose keys are taken before `settings`.
        assume_preset: whether the options of a shipped agent are taken for those that nothing shows.
    """

    settings: Sequence[str] = ()
    metadata_file: Path | None = None
    assume_preset: bool = False


_NOTHING = Filling()


def judge(source: Checkpoint, filling: Filling = _NOTHING, *, pt: bool = True) -> Publishable:
    """Decide what is published of a checkpoint.

    Args:
        source: as it was read.
        filling: what its metadata lack.
        pt: whether the original `.pt` is published, too.

    Raises:
        SecretError: something looks like a credential; names the place, never the secret.
        NotFoundError: there is no `metadata_file`.
        MetadataError: a setting does not fit the schema.
        FormatError: the `.pt` carries too much that no tensor uses.
    """
    _check_names(source)
    if pt and source.origin.unused_bytes > MAX_UNUSED:
        raise FormatError(
            source.origin.path,
            f"{source.origin.unused_bytes:,} bytes of its storages belong to no tensor, and would be published unseen",
            hint="--no-pt publishes the tensors alone",
        )
    if pt and (looked := _original(source)):
        _check_pickle(looked)
    known = _with_architecture(_completed(source.metadata, filling), source.weights, assume=filling.assume_preset)
    uri = known.values.get("uri")
    published = {**known.values, "uri": f"file://{source.name}.pt"}
    values, redactions = scrub.scrub(published)
    foreign, more = scrub.scrub({metadata.BLOCK: known.foreign_block})
    redactions += more
    clean = replace(known, values=values, foreign_block=foreign[metadata.BLOCK])
    block, _ = scrub.scrub(_block(source, clean, redactions), at="/metta_hub")
    metadata.parse(
        metadata.dumps({**values, metadata.BLOCK: block}), source.origin.path
    )  # what is published can be read
    if isinstance(uri, str) and uri != values["uri"]:
        redactions = (Redaction("/uri", "local path"), *redactions)
    return Publishable(replace(source, metadata=clean), block, redactions, uri if isinstance(uri, str) else None)


def _completed(known: Metadata, filling: Filling) -> Metadata:
    if not filling.settings and filling.metadata_file is None:
        return known
    values = dict(known.values)
    if filling.metadata_file is not None:
        document = targets.source(filling.metadata_file)
        values |= metadata.parse(files.read_document(document), document).values
    return known.with_values(metadata.assign(values, filling.settings))


def _with_architecture(known: Metadata, weights: Weights, *, assume: bool) -> Metadata:
    """With the component graph of the shipped agent that the weights are of, where the metadata have none.

    What of it neither names nor shapes show is taken only if the author wants to `assume` it, and listed.

    Raises:
        UnknownArchitectureError: the weights are of no shipped agent, and the author wanted to assume one.
        ArchitectureError: nor do the metadata say what it observes.
    """
    info = metadata.model_info(known.values)
    if info.get("architecture") is not None:
        return known
    try:
        found = architecture.completed(info, description.shapes(weights), assume=assume)
    except (ArchitectureError, AssumptionError, UnknownArchitectureError):
        if assume:
            raise
        return known
    space: dict[str, JSON] = {
        "type": "Box",
        "shape": list(architecture.environment(info).observation),
        "dtype": "uint8",
    }
    more = {"architecture": found.info["architecture"], "observation_space": space}
    new = {key: item for key, item in more.items() if key not in info}
    listed = known.block.get("added")
    added: list[JSON] = [*(listed if isinstance(listed, list) else []), *(f"/model_info/{key}" for key in new)]
    completed = known.with_values({**known.values, "model_info": {**info, **new}})
    block: dict[str, JSON] = {"format_version": metadata.FORMAT_VERSION, **known.block, "added": added}
    return replace(completed, block=block | ({"assumed": list(found.assumed)} if found.assumed else {}))


def _check_names(source: Checkpoint) -> None:
    """Texts that are published as they stand, because the bytes of the weights hold them."""
    scrub.check_text(source.name, "the checkpoint's name")
    for tensor in source.weights.tensors:
        scrub.check_text(tensor.name, "a tensor's name")
        if scrub.scrub_text(tensor.name)[1]:
            raise SecretError("a tensor's name", "a home path", hint="rename the tensor in the state dict")


def _original(source: Checkpoint) -> TorchFile | None:
    """The `.pt` that would be published as it is."""
    origin = source.origin
    if origin.pt is not None:
        return torch_file.look(origin.pt)
    return None if origin.packed is None else packed.look_at(origin.packed, origin.path)


def _check_pickle(looked: TorchFile) -> None:
    """What else a `.pt` says: the name of its archive, and the state dict's own metadata.

    Raises:
        SecretError: something looks like a credential, in bytes that must stay as they are.
    """
    try:
        if isinstance(looked, TorchZip):
            scrub.check_text(looked.root, "the name of its archive")
        scrub.check_text(looked.pickle.decode("latin-1"), "the pickle of the .pt")
    except SecretError as error:
        raise SecretError(error.pointer, error.kind, hint="--no-pt publishes the tensors alone") from None


def _block(source: Checkpoint, known: Metadata, redactions: Sequence[Redaction]) -> dict[str, JSON]:
    facts: dict[str, JSON] = {"redactions": [asdict(redaction) for redaction in redactions]}
    facts["tied"] = [list(group) for group in sorted(map(sorted, source.weights.tied))]
    stem = source.origin.path.stem
    if source.origin.path.is_file() and stem != source.name:
        facts["original_name"] = stem
    shown = [replace(repair, pointer=_without_paths(repair.pointer)) for repair in known.repairs]
    return metadata.block_for(replace(known, repairs=tuple(shown)), facts)


def _without_paths(pointer: str) -> str:
    """A pointer whose keys are scrubbed like the keys themselves."""
    return strict_json.join("", *(scrub.scrub_text(part)[0] for part in strict_json.split(pointer)))
