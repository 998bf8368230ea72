"""from_pretrained: a reference or path → a policy. fetch → read → build."""

from pathlib import Path
from typing import TYPE_CHECKING

from metta_hub import formats, history, policies
from metta_hub.api import sources, targets
from metta_hub.api.pull import fetch
from metta_hub.api.remote import RepoCommit

if TYPE_CHECKING:
    from metta_hub.policies import Module


def from_pretrained(
    target: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    device: str = "cpu",
) -> "Module":
    """Load a policy, local or published, in eval mode. No pickle is executed.

    Args:
        target: a path, or `[hf://]org/name[@revision][:selector]`.
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        device: where the policy will be.

    Raises:
        MissingDependencyError: torch is not installed.
        UnknownArchitectureError: nobody registered a builder for its architecture (`metta_hub.register`).
        WeightsMismatchError: the weights are not that architecture's.
        SourceChangedError: a local checkpoint was written to meanwhile.
    """
    policies.require_torch()
    found = targets.parse(str(target), revision=revision)
    if isinstance(found, Path):
        checkpoint = formats.read(found)
        with sources.unchanged(checkpoint.origin, "the file changed while it was being read"):
            return policies.build(checkpoint, device=device)
    repo = RepoCommit.open(found, "from_pretrained", typed=str(target), token=token, cache_dir=cache_dir)
    return policies.build(fetch(repo, history.select(repo.index, found.selector).entry), device=device)
