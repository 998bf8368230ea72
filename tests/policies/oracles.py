"""Metta's own outputs beside its checkpoints, compared with ours; run as a module, it prints the differences.

PYTHONPATH=tests .venv/bin/python -m policies.oracles
"""

import ast
import json
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from math import prod

import torch

from metta_hub import formats, policies
from metta_hub.policies.metta_agent import PolicyState
from support import SHARED

METTA = SHARED / "metta"
#: Folders with an oracle.
VARIANTS = sorted(path.parent for path in METTA.glob("*/*/oracle.npz"))
DTYPES = {"|u1": torch.uint8, "|b1": torch.bool, "<f4": torch.float32, "<i4": torch.int32, "<i8": torch.int64}


@cache
def oracle(folder):
    """What Metta's code put out: name → tensor."""
    with zipfile.ZipFile(folder / "oracle.npz") as archive:
        return {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}


def _array(data):
    """An array as numpy writes one: magic, version, the length of a header that is a Python literal, the bytes."""
    assert data[:6] == b"\x93NUMPY"
    assert data[6] == 1
    start = 10 + int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:start].decode())
    assert not header["fortran_order"]
    dtype, shape = DTYPES[header["descr"]], header["shape"]
    if not prod(shape):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data[start:]), dtype=dtype).reshape(shape)


def checkpoint(folder, kind="old"):
    """The checkpoint of a variant."""
    [path] = (folder / kind).glob("*.pt")
    return formats.read(path)


def policy(folder, kind="old", **options):
    """Its policy."""
    return policies.build(checkpoint(folder, kind), **options)


@cache
def environment(folder):
    """The facts of the environment that a variant was made in."""
    return json.loads((folder / "env.json").read_text())


def activate(folder, agent, features="features"):
    """Bind a policy to the environment of its variant, or to another one's features."""
    facts = environment(folder)
    agent.initialize_to_environment(facts[features], facts["action_names"], facts["action_max_params"])


@dataclass
class Worst:
    """The largest absolute difference of each kind of output."""

    logits: float = 0.0
    values: float = 0.0
    log_probs: float = 0.0
    state: float = 0.0
    components: float = 0.0
    cases: int = 0
    outputs: int = 0

    def note(self, kind, ours, theirs):
        assert ours.shape == theirs.shape, (kind, ours.shape, theirs.shape)
        difference = (ours.double() - theirs.double()).abs().max().item() if theirs.numel() else 0.0
        setattr(self, kind, max(getattr(self, kind), difference))
        self.outputs += 1

    @property
    def most(self):
        return max(self.logits, self.values, self.log_probs, self.state, self.components)


@torch.no_grad()
def differences(agent, expected):
    """How far a policy is from what Metta's put out, in all cases of an oracle."""
    worst = Worst()
    for case in ("zero", "rand", "edge", "allfull"):
        if f"{case}_obs" in expected:
            worst.cases += 1
            _steps(agent, expected, case, worst)
    _sequence(agent, expected, worst)
    return worst


def _steps(agent, expected, case, worst):
    state = (expected["rand_h0"], expected["rand_c0"]) if case == "rand" else None
    metta = PolicyState(*(part.clone() for part in state)) if state else PolicyState()
    for step, observation in enumerate(expected[f"{case}_obs"]):
        seen = {}
        hooks = _watch(agent, seen) if step == 0 and f"inter_{case}__obs_" in expected else []
        logits, value, state = agent.evaluate(observation, state)
        for hook in hooks:
            hook.remove()
        _, _, _, own_value, log_probs = agent(observation, metta)
        worst.note("logits", logits, expected[f"{case}_logits"][step])
        worst.note("values", value, expected[f"{case}_values"][step])
        assert own_value.equal(value)
        if f"{case}_log_probs" in expected:
            worst.note("log_probs", log_probs, expected[f"{case}_log_probs"][step])
        for ours, own, name in zip(state, (metta.lstm_h, metta.lstm_c), "hc", strict=True):
            worst.note("state", ours, expected[f"{case}_{name}"][step])
            assert own.equal(ours)
        for name, ours in seen.items():
            theirs = expected[f"inter_{case}_{name}"]
            worst.note("components", ours.expand_as(theirs) if name == "_action_embeds_" else ours, theirs)
        if hooks:
            assert {f"inter_{case}_{name}" for name in seen} >= {n for n in expected if n.startswith(f"inter_{case}_")}


def _watch(agent, seen):
    def note(name):
        def hook(module, given, out):
            first, *more = out if isinstance(out, tuple) else (out,)
            seen[name] = first
            if name == "_obs_" and more[0] is not None:
                seen["obs_mask"] = more[0]

        return hook

    return [module.register_forward_hook(note(name)) for name, module in agent.components.items()]


def _sequence(agent, expected, worst):
    """The training form: several steps at once, actions given."""
    worst.cases += 1
    state = PolicyState(expected["seq_h0"], expected["seq_c0"])
    out = agent.evaluate(expected["seq_obs"], (state.lstm_h, state.lstm_c))
    action, log_prob, entropy, value, log_probs = agent(expected["seq_obs"], state, expected["seq_action"])
    assert action.equal(expected["seq_action"])
    worst.note("logits", out.logits, expected["seq_logits"])
    worst.note("values", value, expected["seq_values"])
    worst.note("log_probs", log_prob, expected["seq_logprob"])
    worst.note("log_probs", entropy, expected["seq_entropy"])
    worst.note("log_probs", log_probs, expected["seq_logits"].log_softmax(-1))
    worst.note("state", state.lstm_h, expected["seq_h"])
    worst.note("state", state.lstm_c, expected["seq_c"])


def table():
    """The worst differences of every variant, as a markdown table."""
    lines = [
        "| variant | from | cases | outputs | logits | values | log-probs | states | components |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for folder in VARIANTS:
        kinds = ["old", *(["pair"] if folder.name.startswith("full_") else [])]
        for kind in kinds:
            agent = policy(folder, kind)
            if not len(agent.actions):
                activate(folder, agent)
            worst = differences(agent, oracle(folder))
            figures = (worst.logits, worst.values, worst.log_probs, worst.state, worst.components)
            name = folder.relative_to(METTA).as_posix()
            numbers = " | ".join(f"{figure:.1e}" for figure in figures)
            lines.append(f"| {name} | {kind} | {worst.cases} | {worst.outputs} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
