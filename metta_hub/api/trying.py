"""try: does the policy run here, what does it do, and is it what its author's machine had? fetch → build → ask."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from metta_hub import formats, history, policies
from metta_hub.api import probes, sources, targets
from metta_hub.api.folder import single
from metta_hub.api.pull import fetch, require_listed
from metta_hub.api.remote import RepoCommit, RepoFiles, RepoFolder
from metta_hub.api.report import Report, silent, warnings_told, working
from metta_hub.checkpoint import Checkpoint
from metta_hub.errors import BadValueError
from metta_hub.formats import repo as repo_format
from metta_hub.names import PROBE

if TYPE_CHECKING:
    from metta_hub.policies.policy import Policy

#: Steps that are timed, after some that are not; and seconds after which no further one is begun.
_STEPS, _WARM_UP, _SECONDS = 50, 3, 1.0


@dataclass(frozen=True, slots=True)
class TriedAction:
    """An action, and how likely the policy takes it on the example observation."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class TriedProbe:
    """Outputs here against those of the author's machine: the largest difference, and whether rounding explains it."""

    max_difference: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """What a policy does; the fields of the `--json` output.

    Attributes:
        checkpoint: NAME.
        actions: likeliest first, numbered where nobody knows which is which; on the example observation, from no state.
        step_ms: milliseconds of one step of one observation, the median.
        probe: None when the author published none.
    """

    checkpoint: str
    actions: tuple[TriedAction, ...]
    step_ms: float
    probe: TriedProbe | None


def try_policy(
    target: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    assume_preset: bool = False,
    report: Report = silent,
) -> Tried:
    """Load a policy, local or published, and see what it does. No pickle is executed.

    Args:
        target: a path, or `[hf://]org/name[@revision][:selector]`.
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        assume_preset: as in `from_pretrained`.
        report: told what is being done.

    Raises:
        MettaHubError: as `from_pretrained`.
        BadTypeError: the architecture is somebody else's, and its module has no `evaluate`.
        FormatError: the probe is damaged, or of another policy.
    """
    policies.require_torch()
    from metta_hub.policies.policy import ours

    found = targets.parse(str(target), revision=revision, report=report)
    if isinstance(found, Path):
        found = single(found)
        checkpoint = formats.read(found)
        probe = _probe_of(RepoFolder(found)) if repo_format.sniff(found) else None
    else:
        repo = RepoCommit.open(found, "try", typed=str(target), token=token, cache_dir=cache_dir)
        entry = history.select(repo.index, found.selector).entry
        checkpoint = fetch(repo, entry, report=report)
        probe = _probe_of(repo) if entry.name == repo.index.root else None
    with sources.unchanged(checkpoint.origin, "the file changed while it was being read"), warnings_told(report):
        policy = policies.build(checkpoint, assume_preset=assume_preset)
    with working(report, "try"):
        return _tried(checkpoint, ours(policy), probe)


def _probe_of(repo: RepoFiles) -> Path | None:
    """The probe of a repo's root, as it was published.

    Raises:
        ChecksumError: it is another file.
    """
    record = probes.listed(repo)
    if record is None:
        return None
    path = repo.fetch(PROBE)
    if isinstance(repo, RepoCommit):
        require_listed(repo, record, path, PROBE)
    return path


def _tried(checkpoint: Checkpoint, policy: "Policy", probe: Path | None) -> Tried:
    from metta_hub.policies import probing

    observation = policy.example_observation()[None]
    probabilities = policy.probabilities(observation)[0].tolist()
    if not all(map(isfinite, probabilities)):
        sentence = f"{checkpoint.name} puts out values that are no numbers (NaN)."
        raise BadValueError("policy", sentence, hint="its weights are damaged; 'metta-hub verify' checks them")
    labels: Sequence[str] = policy.actions.labels
    if len(labels) != len(probabilities):  # Metta's own pairs do not say the parameters of actions
        labels = [f"logit {number}" for number in range(len(probabilities))]
    actions = [TriedAction(*pair) for pair in zip(labels, probabilities, strict=True)]
    compared = None if probe is None else probing.compare(policy, probing.read(probe, policy))
    return Tried(
        checkpoint=checkpoint.name,
        actions=tuple(sorted(actions, key=lambda action: -action.probability)),
        step_ms=_milliseconds(lambda: policy.probabilities(observation)),
        probe=None if compared is None else TriedProbe(compared.max_difference, compared.ok),
    )


def _milliseconds(step: Callable[[], object]) -> float:
    for _ in range(_WARM_UP):
        step()
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < _STEPS and time.perf_counter() - began < _SECONDS:
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)
