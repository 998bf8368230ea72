"""save: a policy in memory → a local pair. describe → take the bytes → write."""

from pathlib import Path
from typing import TYPE_CHECKING

from metta_hub import disk, metadata, names, policies
from metta_hub.checkpoint import Checkpoint, Origin
from metta_hub.errors import BadNameError, MetadataError
from metta_hub.formats import files, pair
from metta_hub.formats.pair import PairFiles
from metta_hub.metadata import JSON, Metadata

if TYPE_CHECKING:
    from metta_hub.policies import Module

_FORMAT = "module"
#: What of `model_info` Metta's own pairs leave out.
_ADDED = ("architecture", "action_max_params", "action_embedding_rows", "observation_space")


def save_pretrained(policy: "Module", folder: Path | str, *, name: str | None = None) -> PairFiles:
    """Write a policy as a pair: one that `from_pretrained` gave with the metadata of its checkpoint, as it is now.

    Args:
        policy: a `torch.nn.Module`, on any device.
        folder: where; made when it is not there.
        name: of the pair's files, without an ending; None for that of its checkpoint, else `policy`.

    Raises:
        MettaHubError: as `save`.
    """
    policies.require_torch()
    from metta_hub.policies.tensors import unwrapped

    pretrained = policies.pretrained(unwrapped(policy))
    known = metadata.from_values({}) if pretrained is None else pretrained.metadata
    called = (name or ("policy" if pretrained is None else pretrained.name)).removesuffix(".pt")
    if names.checkpoint_name(called) != called:
        raise BadNameError(called, "it cannot name a checkpoint", hint="letters, digits, '.', '_' and '-'")
    return save(policy, known, Path(folder).expanduser() / f"{called}.pt")


def save(policy: object, known: Metadata, target: Path) -> PairFiles:
    """Write a policy as a pair, both files or neither; a pair that is there already is replaced.

    Args:
        policy: a `torch.nn.Module`, on any device; compiled and distributed ones are taken out of their wrappers.
        known: its metadata; what the policy itself tells is added.
        target: the pair's `.pt`. Its folder is made when it is not there.

    Raises:
        BadTypeError: it is no module.
        BadValueError: it has tensors that no checkpoint can hold.
        BadNameError: no checkpoint can be called so.
        MetadataError: the metadata hold something that JSON has no word for.
        FileError: the pair cannot be written; nothing is left half-written.
    """
    policies.require_torch()
    from metta_hub.policies import describing, tensors

    module, name = tensors.unwrapped(policy), names.checkpoint_name(target.stem)
    earlier = known
    info = describing.model_info(module, known.values.get("model_info"))
    try:
        known = known.with_values({**known.values, **describing.facts(module), "model_info": info})
    except MetadataError as error:
        hint = "numbers, texts, lists and dicts of them, numpy's and torch's values are taken"
        raise MetadataError(error.pointer, error.reason, hint=hint) from None
    with disk.writing(target, 0):
        target.parent.mkdir(parents=True, exist_ok=True)
        pair.tidy(target.parent.resolve())
        values = files.temporary_name(target, files.new_token())  # of a writer that dies, the next one removes it
        try:
            with files.owned(values) as file:
                weights = tensors.written(tensors.state_of(module), file, values)
                origin = Origin(values, _FORMAT, "", {})
                checkpoint = Checkpoint(name, weights, known, origin)
                block = metadata.block_for(known, _supplied(module, earlier, known))
                return pair.write_one(checkpoint, target, block=block, force=True)
        finally:
            values.unlink(missing_ok=True)


def _supplied(module: object, before: Metadata, after: Metadata) -> dict[str, JSON]:
    """What the policy's own description has that its checkpoint did not say, and what was assumed of it."""
    told, says = (metadata.model_info(one.values) for one in (before, after))
    listed, assumed = before.block.get("added"), getattr(module, "assumed", ())
    new: list[JSON] = [f"/model_info/{key}" for key in _ADDED if key in says and key not in told]
    found: dict[str, JSON] = {"added": [*(listed if isinstance(listed, list) else []), *new]}
    return found | ({"assumed": list(map(str, assumed))} if assumed else {})
