"""from_pretrained: a reference or path → a policy. fetch → read → build."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from metta_hub import formats, history, policies
from metta_hub.api import sources, targets
from metta_hub.api.folder import single
from metta_hub.api.pull import fetch
from metta_hub.api.remote import RepoCommit

if TYPE_CHECKING:
    from metta_hub.policies import Device, DType, Module


def from_pretrained(
    target: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
    device: "Device" = "cpu",
    dtype: "DType | None" = None,
    strict: bool = True,
    assume_preset: bool = False,
) -> "Module":
    """Load a policy, local or published, in eval mode. No pickle is executed.

    Args:
        target: a path, or `[hf://]org/name[@revision][:selector]`.
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        local_files_only: whether to ask no Hub, and take what the cache holds.
        device: where the policy will be.
        dtype: of its floating weights, as a dtype of torch's or its name; None for that of the checkpoint.
        strict: whether every weight of the policy must be there, and no other; if not, the others are named in a
            warning, and missing ones have initial values.
        assume_preset: whether to take the options of Metta's shipped agent where a pair has no architecture and its
            weights do not show them; a warning names them at every load.

    Raises:
        MissingDependencyError: torch is not installed.
        UnknownArchitectureError: nobody registered a builder for its architecture (`metta_hub.register`).
        ArchitectureError: its architecture makes no policy.
        AssumptionError: part of its architecture would have to be assumed, and `assume_preset` is not set.
        WeightsMismatchError: the weights are not that architecture's.
        OfflineError: `local_files_only`, and the cache does not have it.
        SourceChangedError: a local checkpoint was written to meanwhile.
    """
    policies.require_torch()
    build = partial(policies.build, device=device, dtype=dtype, strict=strict, assume_preset=assume_preset)
    found = targets.parse(str(target), revision=revision)
    if isinstance(found, Path):
        checkpoint = formats.read(single(found))
        with sources.unchanged(checkpoint.origin, "the file changed while it was being read"):
            return build(checkpoint)
    repo = RepoCommit.open(
        found,
        "from_pretrained",
        typed=str(target),
        token=token,
        cache_dir=None if cache_dir is None else Path(cache_dir),
        local_files_only=local_files_only,
    )
    entry = history.select(repo.index, found.selector).entry
    return build(fetch(repo, entry, original=False, again=False), mapped=True)
