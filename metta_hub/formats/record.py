"""The record: a `.pt` that is a whole pickled policy, as Metta wrote them until October 2025, in all its eras.

A `PolicyRecord` with its agent inside, an archive of torch.package with both, or an agent alone. The pickle is read as
data: nothing of it is called, none of its classes is needed. Source: specification of Metta's checkpoints, sections
1.0 to 1.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from metta_hub import containers, metadata, names
from metta_hub.block import FORMAT_VERSION
from metta_hub.checkpoint import Checkpoint, FileState, Findings, Origin, Weights
from metta_hub.containers import object_file
from metta_hub.containers.object_file import ObjectFile
from metta_hub.containers.pickles import Beginning
from metta_hub.containers.plain import NotPlain
from metta_hub.errors import FormatError, NotPlainError
from metta_hub.metadata import JSON, Metadata
from metta_hub.pickled import agent, modules
from metta_hub.pickled.modules import Unwrapped
from metta_hub.pickled.objects import MISSING, attribute, attributes, class_of, name_of
from metta_hub.pickled.values import Values

FORMAT = "record"

#: Attributes of a record, the usual one first (specification, section 1.2).
METADATA = ("_metadata", "metadata", "checkpoint", "meta_data", "_meta_data", "_checkpoint")
POLICY = ("_cached_policy", "_policy", "policy_cache")
_NAME = ("run_name", "name")
_RECORD = ".PolicyRecord"

#: Names under which pairs have something else, and where a record's metadata of such a name are kept.
DISPLACED = "displaced"
_TAKEN = frozenset({"model_info", "metta_hub", DISPLACED})

OLDEST, PACKAGED, BARE = "2024-10-15 to 2025-04-14", "2025-06-23 to 2025-06-30", "2025-09-02 to 2025-10-14"
#: A module that is none of Metta's.
UNDATED = ""
_METTA = ("metta.", "agent.")


@dataclass(frozen=True, slots=True)
class _Parts:
    """What of a file is what.

    Attributes:
        record: the record; `MISSING` when an agent was pickled alone.
        policy: the agent.
        record_in: the name of the pickle with the record.
        policy_in: the name of the pickle with the agent.
    """

    record: object
    policy: object
    record_in: str
    policy_in: str


def sniff(path: Path) -> bool:
    """Whether the file is a whole pickled policy."""
    return era(path) is not None


def era(path: Path) -> str | None:
    """When Metta wrote files like this one, by what they begin with; `UNDATED` for others' modules, None for no record.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return None
    beginning = object_file.peek(path)
    if beginning is not None:
        return era_of(beginning)
    return PACKAGED if containers.sniff(path) == "zip" and object_file.is_package(path) else None


def era_of(beginning: Beginning) -> str | None:
    """The same of a PyTorch zip whose pickle begins so."""
    class_ = class_of(beginning.root) or name_of(beginning.root)
    first = {key for key, _ in beginning.pairs}
    if not class_.endswith(_RECORD):
        is_module = {"_parameters", "_modules"} <= first or modules.is_module(beginning.root)
        if not is_module and class_ != modules.COMPILED:
            return None
        return BARE if class_.startswith(_METTA) or class_ == modules.COMPILED else UNDATED
    if class_.startswith("agent."):
        return OLDEST
    if class_.startswith("metta.agent.policy_store."):
        return "2025-04-15 to 2025-06-22"
    return "2025-07-01" if "name" in first else "2025-07-01 to 2025-09-01"


def read(path: Path) -> Checkpoint:
    """Read a record: its weights, its metadata with their true types, and how its agent is made.

    Raises:
        FormatError: it is damaged.
        NotPlainError: it holds no policy, or one that is no module all through.
        MetadataError: its metadata cannot be what they say they are.
    """
    sources = {path: FileState.of(path)}
    with object_file.opened(path) as file:
        return _checkpoint(path, file, sources)


def _checkpoint(path: Path, file: ObjectFile, sources: Mapping[Path, FileState]) -> Checkpoint:
    parts = _parts(file)
    unwrapped = modules.unwrap(parts.policy)
    return Checkpoint(
        name=names.checkpoint_name(names.stem(path)),
        weights=_weights(file, parts.policy_in, unwrapped),
        metadata=_metadata(file, parts, unwrapped, path),
        origin=Origin(
            path=path,
            format=FORMAT,
            container=file.container,
            sources=sources,
            findings=Findings(file.globals, plain=False, reason="it is a whole pickled policy; its pickle is not run"),
            warnings=_warnings(unwrapped),
        ),
    )


# --- looking ---


def _parts(file: ObjectFile) -> _Parts:
    roots = {name: pickled.root for name, pickled in file.pickles.items()}
    record_in = next((name for name, root in roots.items() if class_of(root).endswith(_RECORD)), "")
    record = roots.get(record_in, MISSING)
    inside = attribute(record, *POLICY)
    if inside is not MISSING:
        return _Parts(record, inside, record_in, record_in)
    policy_in = next((name for name, root in roots.items() if modules.is_module(root)), None)
    if policy_in is None:
        packaged = "a torch.package" if file.container == object_file.PACKAGE else "a pickled object"
        what = "a record without its policy" if record_in else f"{packaged} in which there is no policy"
        raise NotPlainError(file.path, f"it is {what}", globals_=file.globals)
    return _Parts(record, roots[policy_in], record_in or policy_in, policy_in)


# --- weights ---


def _weights(file: ObjectFile, pickle: str, unwrapped: Unwrapped) -> Weights:
    reader = file.tensors(pickle)
    try:
        infos = [reader.read(name, tensor) for name, tensor in modules.state_dict(unwrapped.module)]
    except (NotPlain, ValueError) as refusal:
        raise NotPlainError(file.path, str(refusal), globals_=file.globals) from None
    if len({info.name for info in infos}) != len(infos):
        raise FormatError(file.path, "two of its tensors have the same name")
    if not infos:
        raise FormatError(file.path, "its policy has no weights", hint="there is nothing in it to publish or to run")
    return file.weights(infos, reader)


# --- metadata ---


def _metadata(file: ObjectFile, parts: _Parts, unwrapped: Unwrapped, path: Path) -> Metadata:
    about_record, about_policy = Values(file, parts.record_in), Values(file, parts.policy_in)
    described = agent.describe(unwrapped.module, about_policy)
    values: dict[str, JSON] = {}
    if parts.record is MISSING:
        values |= names.agent_facts(path.stem)
    else:
        values |= _told(parts.record, about_record)
    values |= {key: item for key, item in described.metadata.items() if key != "action_names" or not values.get(key)}
    values["model_info"] = dict(described.model_info)
    known = metadata.from_values(values)
    block: dict[str, JSON] = {"format_version": FORMAT_VERSION, "added": list(described.added)}
    if described.rebuilt:
        block["rebuilt"] = list(described.rebuilt)
    if unwrapped.prefixes:
        block["stripped"] = list(unwrapped.prefixes)
    repairs = (*about_record.repairs, *about_policy.repairs, *known.repairs)
    return replace(known, block=block, repairs=repairs)


def _told(record: object, values: Values) -> Mapping[str, JSON]:
    """What a record says about its policy; what its metadata have under the names of other things stands apart."""
    found = values.mapping(attribute(record, *METADATA))
    own: dict[str, JSON] = {"uri": values.plain(attributes(record).get("uri"), "/uri")}
    name = attribute(record, *_NAME)
    if name is not MISSING:
        own["run_name"] = values.plain(name, "/run_name")
    displaced = {key: item for key, item in found.items() if key in _TAKEN or (key in own and own[key] != item)}
    impossible = values.leave_out_impossible(found)
    displaced |= impossible
    kept = {key: item for key, item in found.items() if key not in {*_TAKEN, *impossible}}
    return kept | own | ({DISPLACED: displaced} if displaced else {})


def _warnings(unwrapped: Unwrapped) -> tuple[str, ...]:
    if not unwrapped.prefixes:
        return ()
    return (f"It was saved compiled or distributed: '{''.join(unwrapped.prefixes)}' was stripped from its names.",)
