"""The wrapped state dict: a dict of torch.save with the weights under one key and what is known about them beside it.

Metta's older tools read such files (specification of Metta's checkpoints, section 1.4), and most training code of
others writes them. What a trainer saved to go on, without weights, looks alike and is no checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from metta_hub import metadata, names
from metta_hub.block import FORMAT_VERSION
from metta_hub.checkpoint import Checkpoint, FileState, Findings, Origin, Weights
from metta_hub.containers import object_file
from metta_hub.containers.object_file import ObjectFile
from metta_hub.containers.pickles import Beginning, Record
from metta_hub.containers.plain import ORDERED_DICT, REBUILDS, NotPlain
from metta_hub.errors import FormatError, NotPlainError
from metta_hub.metadata import JSON, Metadata
from metta_hub.pickled import modules
from metta_hub.pickled.objects import class_of, entries, is_dict, name_of, pairs_of, size_of
from metta_hub.pickled.values import Values
from metta_hub.repairs import SCHEMA

FORMAT = "wrapped state dict"

WEIGHTS = ("model_state_dict", "state_dict")
#: What only a trainer's own state has.
_TRAINER = ("optimizer_state_dict", "optimizer")
#: The two keys of `Optimizer.state_dict()`.
_OPTIMIZER = ("state", "param_groups")
#: What Metta's reader of such files takes besides metadata, and where a pair has it.
_ATTRIBUTES = ("obs_shape", "feature_normalizations")
_NVEC = "action_space_nvec"
_PREFIXES = ("module.", "_orig_mod.")
_PICKLE = "data.pkl"
#: Keys that a sentence names.
_SHOWN = 8


def sniff(path: Path) -> bool:
    """Whether the file is a dict whose first value is no tensor."""
    beginning = object_file.peek(path) if path.is_file() else None
    return beginning is not None and is_wrapper(beginning)


def is_trainers(path: Path) -> bool:
    """Whether the file is what a trainer saves to go on, or an optimizer's state, and no weights stand in it.

    Raises:
        FormatError: it is damaged.
    """
    beginning = object_file.peek(path)
    if beginning is None or not is_trainer_state(beginning):
        return False
    root = entries(object_file.look(path).pickles[_PICKLE].root)  # the weights may come after a long optimizer
    return not any(is_dict(root.get(key)) for key in WEIGHTS)


def is_wrapper(beginning: Beginning) -> bool:
    """Whether a pickle begins like a dict of weights and what is known about them, or of what a trainer keeps."""
    named = {key for key, _ in beginning.pairs}
    if not _is_dict(beginning.root) or not named & {*WEIGHTS, *_TRAINER, _OPTIMIZER[0], *SCHEMA}:
        return False
    _, first = beginning.pairs[0]
    return not (class_of(first) or name_of(first)).startswith(REBUILDS)


def is_trainer_state(beginning: Beginning) -> bool:
    """Whether a pickle begins like what a trainer saves to go on, or like an optimizer's state."""
    named = {key for key, _ in beginning.pairs}
    return is_wrapper(beginning) and bool(named & {*_TRAINER, _OPTIMIZER[0]}) and not named & {*WEIGHTS}


def read(path: Path) -> Checkpoint:
    """Read the weights and what stands beside them.

    Raises:
        FormatError: it is damaged, or has no weights.
        MetadataError: its metadata cannot be what they say they are.
    """
    sources = {path: FileState.of(path)}
    with object_file.opened(path) as file:
        return _checkpoint(path, file, sources)


def _checkpoint(path: Path, file: ObjectFile, sources: Mapping[Path, FileState]) -> Checkpoint:
    root = entries(file.pickles[_PICKLE].root)
    key = next((key for key in WEIGHTS if is_dict(root.get(key))), None)
    if key is None:
        raise _without_weights(path, root)
    weights, prefix = _stripped(_weights(file, root[key], key))
    left = sorted(name for name in root if name != key and name not in {*SCHEMA, *_ATTRIBUTES, _NVEC})
    warnings = []
    if left:
        warnings.append(f"Left out, since it is no part of a policy: {_shown(left)}.")
    if prefix:
        warnings.append(f"It was saved compiled or distributed: '{prefix}' was stripped from its names.")
    return Checkpoint(
        name=names.checkpoint_name(names.stem(path)),
        weights=weights,
        metadata=_metadata(file, root, prefix, path),
        origin=Origin(
            path=path,
            format=FORMAT,
            container=file.container,
            sources=sources,
            findings=Findings(file.globals, plain=False, reason=f"its weights stand under '{key}'"),
            warnings=tuple(warnings),
        ),
    )


def _is_dict(root: object) -> bool:
    return type(root) is dict or class_of(root) == ORDERED_DICT


def _without_weights(path: Path, root: Mapping[str, object]) -> FormatError:
    trainer = next((key for key in _TRAINER if key in root), None)
    if trainer:
        reason = f"it is a trainer's state (it has '{trainer}' and no weights), and not a policy"
        return FormatError(path, reason, hint="name the checkpoint beside it")
    if root.keys() == {*_OPTIMIZER}:
        return FormatError(path, "it is an optimizer's state, and not a policy", hint="name the checkpoint beside it")
    has = _shown([f"'{key}'" for key in root]) or "nothing"
    return FormatError(
        path,
        f"it is a dict without weights under any of {', '.join(WEIGHTS)} (it has {has})",
        hint="save the state dict alone: torch.save(model.state_dict(), FILE)",
    )


def _shown(keys: Sequence[str]) -> str:
    """Some keys, in a sentence."""
    more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    return ", ".join(key[:50] for key in keys[:_SHOWN]) + more


# --- weights ---


def _weights(file: ObjectFile, held: object, key: str) -> Weights:
    reader = file.tensors(_PICKLE)
    infos = []
    if size_of(held) > modules.MAX_ENTRIES:
        raise FormatError(file.path, f"its entry '{key}' has more than {modules.MAX_ENTRIES:,} tensors")
    for name, item in pairs_of(held):
        if type(name) is not str or type(item) is not Record:
            reason = f"its entry '{key}' holds more than tensors under names"
            raise NotPlainError(file.path, reason, globals_=file.globals)
        try:
            infos.append(reader.read(name, item))
        except NotPlain as refusal:
            raise NotPlainError(file.path, f"in its entry '{key}': {refusal}", globals_=file.globals) from None
    if not infos or len({info.name for info in infos}) != len(infos):
        raise FormatError(file.path, f"its entry '{key}' has {'a name twice' if infos else 'no tensors'}")
    return file.weights(infos, reader)


def _stripped(weights: Weights) -> tuple[Weights, str]:
    """Without what compiling and distributing put before all names."""
    prefix, tensors = "", weights.tensors
    for _ in range(modules.MAX_WRAPPERS):
        found = next((one for one in _PREFIXES if all(info.name.startswith(one) for info in tensors)), None)
        if found is None:
            break
        prefix += found
        tensors = tuple(info._replace(name=info.name.removeprefix(found)) for info in tensors)
    return Weights(tensors, weights.storages), prefix


# --- metadata ---


def _metadata(file: ObjectFile, root: Mapping[str, object], prefix: str, path: Path) -> Metadata:
    values = Values(file, _PICKLE)
    found = {key: values.plain(root[key], f"/{key}") for key in SCHEMA if key in root}
    info = {key: values.plain(root[key], f"/{key}") for key in _ATTRIBUTES if root.get(key) is not None}
    if root.get(_NVEC) is not None:
        info["action_space"] = {"type": "MultiDiscrete", "nvec": values.plain(root[_NVEC], f"/{_NVEC}")}
    for key in values.leave_out_impossible(found):
        del found[key]
    if info and "model_info" not in found:
        found["model_info"] = {"agent_attributes": info}
    if found.get("epoch") is None and (epoch := names.epoch_in(path.stem)) is not None:
        found["epoch"] = epoch
    known = metadata.from_values(found)
    block: dict[str, JSON] = {"format_version": FORMAT_VERSION} | ({"stripped": [prefix]} if prefix else {})
    return replace(known, block=block, repairs=(*values.repairs, *known.repairs))
