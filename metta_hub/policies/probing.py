"""Probes: a few observations, and what a policy put out for them on its author's machine.

`POLICY-REPO.md` states the file. It is a stranger's, so that its size and shapes are checked before it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metta_hub.checkpoint import Weights
from metta_hub.containers import safetensors
from metta_hub.errors import FormatError, UsageError
from metta_hub.policies import tensors
from metta_hub.policies.loading import read_tensors
from metta_hub.policies.policy import Policy, PolicyOutput, State

#: How many observations a probe of ours has, and how many one may have.
COUNT, MOST = 8, 32
#: Largest file that is read, in bytes.
MAX_BYTES = 64 << 20
#: Steps that the states of the later half were made by; the others begin with zeros, as an episode does.
_STEPS = 3

#: How far outputs may differ, as part of the largest of their tensor, or of 1 if that is less: other processors and
#: other versions of torch round otherwise, another weight shows in more digits.
TOLERANCE: Mapping[torch.dtype, float] = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
_USUAL = 2e-6

_NAMES = ("observation", "state_h", "state_c", "logits", "value", "next_state_h", "next_state_c")


@dataclass(frozen=True)
class Probe:
    """Observations, and what a policy put out for them.

    Attributes:
        observation: [B, …], of the policy's observation space.
        state: before, each [L, B, H].
        output: what came out.
    """

    observation: Tensor
    state: State
    output: PolicyOutput

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it under the names of the file."""
        parts = (self.observation, *self.state, self.output.logits, self.output.value, *self.output.state)
        return dict(zip(_NAMES, parts, strict=True))


@dataclass(frozen=True, slots=True)
class Compared:
    """Whether a policy puts out what its author's did.

    Attributes:
        max_difference: the largest of all differences.
        ok: whether each is within what rounding explains.
    """

    max_difference: float
    ok: bool


@torch.no_grad()
def make(policy: Policy) -> Probe:
    """Ask a policy for its outputs on observations that are always the same.

    Raises:
        UsageError: it has no actions yet.
    """
    observation = torch.stack([policy.example_observation(number) for number in range(COUNT)])
    if not _actions(policy):
        raise UsageError("The policy knows no actions yet.", hint="call policy.initialize_to_environment(…) first")
    state = policy.initial_state(COUNT)
    for step in range(1, _STEPS + 1):
        state = policy.evaluate(observation.roll(step, 0), state).state
    for part in state:
        part[:, : COUNT // 2] = 0
    return Probe(observation, state, policy.evaluate(observation, state))


def write(probe: Probe, path: Path) -> Path:
    """Write a probe, the same bytes for the same probe; `path` is where its tensors lie meanwhile, too."""
    values = path.with_suffix(".values")
    try:
        with values.open("wb") as file:
            weights = tensors.written(probe.tensors.items(), file, values)
        safetensors.write(weights, path)
    finally:
        values.unlink(missing_ok=True)
    return path


def read(path: Path, policy: Policy) -> Probe:
    """Read the probe of a policy.

    Raises:
        FormatError: it is damaged, or of another policy.
    """
    if path.stat().st_size > MAX_BYTES:
        raise FormatError(path, f"it has more than {MAX_BYTES >> 20} MiB; a probe has a few kilobytes")
    weights = safetensors.read(path)
    _check(weights, policy, path)
    found = read_tensors(weights)
    observation, h, c, logits, value, next_h, next_c = (found[name] for name in _NAMES)
    return Probe(observation, (h, c), PolicyOutput(logits, value, (next_h, next_c)))


@torch.no_grad()
def compare(policy: Policy, probe: Probe) -> Compared:
    """Ask a policy for its outputs on a probe's observations, and compare."""
    output = policy.evaluate(probe.observation, probe.state)
    mine, theirs = ((one.logits, one.value, *one.state) for one in (output, probe.output))
    differences = [_difference(*pair) for pair in zip(mine, theirs, strict=True)]
    tolerance = TOLERANCE.get(policy.dtype, _USUAL)
    ok = all(difference <= tolerance * scale for difference, scale in differences)
    return Compared(max(difference for difference, _ in differences), ok)


def _difference(mine: Tensor, theirs: Tensor) -> tuple[float, float]:
    """The largest difference, infinite where a number is compared with none; and how large the numbers are."""
    mine, theirs = mine.double().cpu(), theirs.double().cpu()
    difference = (mine - theirs).abs()
    difference[mine.eq(theirs) | (mine.isnan() & theirs.isnan())] = 0
    finite = theirs[theirs.isfinite()].abs()
    scale = max(1.0, float(finite.max())) if finite.numel() else 1.0
    return float(difference.nan_to_num(nan=torch.inf).max()), scale


@torch.no_grad()
def _actions(policy: Policy) -> int:
    """How many actions the logits are of, whether or not anybody knows their names."""
    return policy.evaluate(policy.example_observation()[None]).logits.shape[-1]


def _check(weights: Weights, policy: Policy, path: Path) -> None:
    shapes = {info.name: info.shape for info in weights.tensors}
    count = (shapes.get("observation") or (0,))[0]
    if shapes.keys() != {*_NAMES} or not 0 < count <= MOST:
        raise FormatError(path, f"it is no probe: one has {', '.join(_NAMES)}, of 1 to {MOST:,} observations")
    state = (policy.num_layers, count, policy.hidden_size)
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(("state_h", "state_c", "next_state_h", "next_state_c"), state)
    wanted |= {"observation": (count, *policy.observation_space.shape), "value": (count, 1)}
    wanted["logits"] = (count, _actions(policy))
    wrong = [f"{name} {list(shapes[name])} for {list(one)}" for name, one in wanted.items() if shapes[name] != one]
    if wrong:
        raise FormatError(path, f"it is the probe of another policy: {', '.join(wrong)}")
