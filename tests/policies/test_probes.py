"""Probes and `try`: what a policy puts out here, against what it put out on its author's machine."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import metta_hub
from metta_hub import errors
from metta_hub.names import PROBE
from metta_hub.policies import probing
from policies import oracles
from support import DATA, SHARED

RECORD = DATA / "records" / "model_0005.pt"
RUN = DATA / "run" / "model_000140.pt"
SMALL = SHARED / "metta" / "fast" / "small_s1"


def changed(source, target, factor):
    """The pair of a checkpoint, with one weight changed."""
    metta_hub.migrate_checkpoint(source, target)
    state = torch.load(target, weights_only=True)
    state["components._value_._net.weight"][0, 0] *= factor
    torch.save(state, target)
    document = json.loads(target.with_suffix(".json").read_text())
    del document["metta_hub"]["weights"]
    target.with_suffix(".json").write_text(json.dumps(document))
    return target


@pytest.mark.parametrize("source", [RECORD, RUN], ids=["record", "pair"])
def test_the_outputs_are_those_of_the_authors_machine(source, repo_id, api, cli):
    pushed = metta_hub.push(source, repo_id, probe=True)
    assert PROBE in {file.path for file in pushed.files}
    assert metta_hub.verify(repo_id).ok
    assert not metta_hub.push(source, repo_id, probe=True).changed
    assert not metta_hub.push(source, repo_id).changed
    tried = metta_hub.try_policy(repo_id)
    assert tried.probe.ok
    assert tried.probe.max_difference < 1e-6
    assert sum(action.probability for action in tried.actions) == pytest.approx(1)
    shown = cli("try", repo_id).stdout
    assert "Same outputs as on the author's machine: yes (largest difference " in shown
    assert tried.actions[0].name in shown
    folder = api.snapshot_download(repo_id)
    assert json.loads(cli("try", folder, "--json").stdout)["probe"]["ok"]


def test_a_probe_has_eight_observations_half_of_them_within_an_episode(repo_id, api):
    metta_hub.push(RECORD, repo_id, probe=True)
    policy = metta_hub.from_pretrained(repo_id)
    probe = probing.read(Path(api.hf_hub_download(repo_id, PROBE)), policy)
    assert len(probe.observation) == 8
    assert len({bytes(observation.flatten().tolist()) for observation in probe.observation}) == 8
    assert not probe.state[0][:, :4].any()
    assert probe.state[0][:, 4:].abs().gt(0).any((0, 2)).all()
    output = policy.evaluate(probe.observation, probe.state)
    assert torch.allclose(output.logits, probe.output.logits, atol=1e-6)  # with gradients, torch takes other ways


def test_other_weights_have_other_outputs(repo_id, tmp_path, cli):
    """One weight differs by one per cent: exit 1, in words and as JSON."""
    folder = tmp_path / "other"
    folder.mkdir()
    metta_hub.push(changed(RECORD, folder / "model_0005.pt", 1.01), repo_id, probe=_recorded(tmp_path))
    shown = cli("try", repo_id, code=1).stdout
    assert "Same outputs as on the author's machine: NO (largest difference " in shown
    found = json.loads(cli("try", repo_id, "--json", code=1).stdout)["probe"]
    assert not found["ok"]
    assert found["max_difference"] > 1e-5


def _recorded(tmp_path):
    """A probe of the unchanged record, as a file."""
    policy = metta_hub.from_pretrained(RECORD)
    return probing.write(probing.make(policy), tmp_path / "recorded.safetensors")


def test_the_author_is_told_when_a_recorded_probe_is_of_other_weights(repo_id, tmp_path):
    said = []
    pair = changed(RECORD, tmp_path / "model_0005.pt", 1.01)
    metta_hub.push(pair, repo_id, probe=_recorded(tmp_path), report=lambda *words: said.append(words))
    assert any("puts out other numbers here" in words for _, words in said)


def test_a_probe_leaves_with_the_weights_that_it_was_made_of(repo_id, api, tmp_path):
    metta_hub.push(RECORD, repo_id, probe=True)
    second = shutil.copy(RECORD, tmp_path / "model_0006.pt")
    metta_hub.push(second, repo_id, promote=False)
    assert api.file_exists(repo_id, PROBE)
    assert metta_hub.try_policy(f"{repo_id}:model_0006").probe is None
    metta_hub.push(RUN, repo_id, replace=True)
    assert not api.file_exists(repo_id, PROBE)
    assert metta_hub.verify(repo_id).ok
    assert metta_hub.try_policy(repo_id).probe is None


def test_a_probe_of_somebody_else_is_no_probe(repo_id, api, tmp_path):
    """A file of that name that no publication listed is left alone, and not believed."""
    metta_hub.push(RECORD, repo_id)
    with _recorded(tmp_path).open("rb") as file:
        api.upload_file(path_or_fileobj=file, path_in_repo=PROBE, repo_id=repo_id)
    assert metta_hub.try_policy(repo_id).probe is None
    metta_hub.push(RUN, repo_id)
    assert api.file_exists(repo_id, PROBE)


def test_a_damaged_or_foreign_probe_is_refused(tmp_path, repo_id):
    other = probing.write(probing.make(metta_hub.from_pretrained(RUN)), tmp_path / "other.safetensors")
    with pytest.raises(errors.FormatError, match="probe of another policy"):
        metta_hub.push(RECORD, repo_id, probe=other)
    (tmp_path / "half.safetensors").write_bytes(other.read_bytes()[:-100])
    with pytest.raises(errors.FormatError):
        metta_hub.push(RUN, repo_id, probe=tmp_path / "half.safetensors")
    with pytest.raises(errors.FormatError, match="it is no probe"):
        probing.read(_mirror_of(RUN, tmp_path), metta_hub.from_pretrained(RUN))


def _mirror_of(source, tmp_path):
    from metta_hub.containers import safetensors, torch_file

    safetensors.write(torch_file.read(source).weights, tmp_path / "mirror.safetensors")
    return tmp_path / "mirror.safetensors"


def test_a_probe_belongs_to_the_root(repo_id):
    with pytest.raises(errors.UsageError, match="belongs to the root"):
        metta_hub.push(RECORD, repo_id, probe=True, promote=False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_compared_as_such(dtype):
    policy = metta_hub.from_pretrained(RECORD, dtype=dtype)
    probe = probing.make(policy)
    assert probing.compare(policy, probe).ok
    policy.components["_value_"].get_parameter("_net.weight").data *= 2
    assert not probing.compare(policy, probe).ok


def test_a_policy_is_pushed_and_saved_as_it_is_now(repo_id, tmp_path):
    policy = metta_hub.from_pretrained(RECORD)
    with torch.no_grad():
        policy.components["_value_"].get_parameter("_net.bias").add_(1)
    pushed = metta_hub.push(policy, repo_id)
    assert pushed.checkpoint == "model_0005"
    again = metta_hub.from_pretrained(repo_id)
    assert metta_hub.try_policy(repo_id).probe.ok
    observation = policy.example_observation()[None]
    torch.testing.assert_close(again.evaluate(observation).value, policy.evaluate(observation).value)
    assert not torch.equal(
        again.evaluate(observation).value, metta_hub.from_pretrained(RECORD).evaluate(observation).value
    )
    assert metta_hub.inspect(repo_id).metadata["score"] == 0.5
    assert not metta_hub.push(again, repo_id).changed
    saved = metta_hub.save_pretrained(again, tmp_path / "folder", name="mine_0007")
    assert saved.pt == tmp_path / "folder" / "mine_0007.pt"
    third = metta_hub.from_pretrained(saved.pt)
    assert all(one.equal(other) for one, other in zip(third.parameters(), again.parameters(), strict=True))


def test_a_module_of_somebody_else_is_saved_with_what_it_says(tmp_path):
    saved = metta_hub.save_pretrained(torch.nn.Linear(2, 3), tmp_path)
    assert saved.pt == tmp_path / "policy.pt"
    assert metta_hub.inspect(saved.pt).metadata["model_info"]["type"] == "Linear"


def test_what_has_no_evaluate_cannot_be_tried(tmp_path, monkeypatch):
    from metta_hub import policies

    monkeypatch.setattr(policies, "_BUILDERS", {})
    metta_hub.register("Linear", lambda _: torch.nn.Linear(2, 3))
    saved = metta_hub.save_pretrained(torch.nn.Linear(2, 3), tmp_path)
    with pytest.raises(errors.BadTypeError, match="has no evaluate"):
        metta_hub.try_policy(saved.pt)


@pytest.mark.skipif(not SMALL.is_dir(), reason="the shared folder is not beside the project")
@pytest.mark.parametrize("factor", [1, 1.01])
def test_mettas_own_numbers_are_a_probe(factor, tmp_path, repo_id, cli):
    """What Metta's code put out is published with the record; the policy here gives the same, and no other does."""
    oracle = oracles.oracle(SMALL)
    before = tuple(oracle[name] for name in ("rand_h0", "rand_c0"))
    after = tuple(oracle[f"rand_{name}"][0] for name in ("h", "c"))
    output = probing.PolicyOutput(oracle["rand_logits"][0], oracle["rand_values"][0], after)
    probe = probing.Probe(oracle["rand_obs"][0], before, output)
    recorded = probing.write(probe, tmp_path / "recorded.safetensors")
    source = changed(SMALL / "old" / "model_0003.pt", tmp_path / "model_0003.pt", factor)
    metta_hub.push(source, repo_id, probe=recorded)
    shown = cli("try", repo_id, code=int(factor != 1)).stdout
    assert f"Same outputs as on the author's machine: {'yes' if factor == 1 else 'NO'}" in shown


def test_what_is_assumed_is_published_and_said_at_every_load(repo_id, cli):
    """A pair of Metta's with other sizes than any shipped agent's: refused, unless its author assumes the rest."""
    pair = DATA / "pairs" / "fast_small" / "model_0012.pt"
    pair = next((DATA / "pairs" / "fast_small").glob("*.pt")) if not pair.exists() else pair
    metta_hub.push(pair, repo_id)
    with pytest.raises(errors.AssumptionError):
        metta_hub.from_pretrained(repo_id)
    assert "--assume-preset" in cli("try", repo_id, code=1).stderr
    cli("try", repo_id, "--assume-preset")
    cli("push", pair, repo_id, "--assume-preset")
    assumed = json.loads(cli("inspect", repo_id, "--json").stdout)
    assert "architecture" in assumed["metadata"]["model_info"]
    for _ in range(2):
        with pytest.warns(UserWarning, match="was assumed, not known: .*stride"):
            metta_hub.from_pretrained(repo_id)


def test_nothing_is_assumed_of_what_is_no_shipped_agent(tmp_path, repo_id):
    saved = metta_hub.save_pretrained(torch.nn.Linear(2, 3), tmp_path)
    with pytest.raises((errors.UnknownArchitectureError, errors.ArchitectureError)):
        metta_hub.push(saved.pt, repo_id, assume_preset=True)
