"""Metta's checkpoints give the numbers that Metta's own code gave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import metta_hub
from metta_hub import formats
from metta_hub.errors import AssumptionError, UnknownArchitectureError, UsageError
from policies.oracles import METTA, VARIANTS, activate, checkpoint, differences, environment, oracle, policy

pytestmark = pytest.mark.skipif(not VARIANTS, reason="the shared folder is not beside the project")

CLOSE = 1e-5
FULL = [folder for folder in VARIANTS if folder.name.startswith("full_")]
RESIZED = [folder for folder in VARIANTS if folder not in FULL and (folder / "pair").is_dir()]


def name(folder):
    return folder.relative_to(METTA).as_posix()


def test_every_variant_is_there():
    assert len(VARIANTS) == 17
    assert len(FULL) == 3
    assert len(RESIZED) == 12


@pytest.mark.parametrize("folder", VARIANTS, ids=name)
def test_a_record_gives_mettas_numbers(folder):
    agent = policy(folder)
    if not len(agent.actions):
        activate(folder, agent)
    worst = differences(agent, oracle(folder))
    assert worst.most <= CLOSE
    assert worst.cases == (3 if folder.parent.name == "simple_box" else 5)
    assert agent.action_index_tensor.equal(oracle(folder)["action_index_table"].int())
    assert agent.components["_action_embeds_"].active_indices.equal(oracle(folder)["active_indices"])


@pytest.mark.parametrize("folder", FULL, ids=name)
def test_a_pair_of_a_shipped_agent_gives_mettas_numbers(folder):
    agent = policy(folder, "pair")
    activate(folder, agent)
    assert differences(agent, oracle(folder)).most <= CLOSE
    assert agent.assumed == ()


@pytest.mark.parametrize("folder", RESIZED, ids=name)
def test_a_pair_of_another_size_is_refused_naming_what_would_be_assumed(folder):
    with pytest.raises(AssumptionError) as refused:
        policy(folder, "pair")
    [config] = [checkpoint(folder).metadata.values["model_info"]["architecture"]["components"]]
    assert refused.value.assumed
    for pointer in refused.value.assumed:
        component, *option = pointer.removeprefix("/model_info/architecture/components/").split("/")
        assert component in config
        assert "/".join([component, *option]) in str(refused.value)
    assert "assume_preset" in refused.value.hint


@pytest.mark.parametrize("folder", RESIZED, ids=name)
def test_what_is_assumed_is_said_at_every_load(folder):
    for _ in range(2):
        with pytest.warns(UserWarning, match="assumed, not known"):
            agent = policy(folder, "pair", assume_preset=True)
    assert agent.assumed


@pytest.mark.parametrize("variant", ["latent_attn_tiny/remap_s12", "fast/two_action_sets_s4", "fast/unactivated_s3"])
def test_assumptions_that_are_right_give_mettas_numbers(variant):
    with pytest.warns(UserWarning, match="assumed, not known"):
        agent = policy(METTA / variant, "pair", assume_preset=True)
    activate(METTA / variant, agent, "features_second_env" if "remap" in variant else "features")
    assert differences(agent, oracle(METTA / variant)).most <= CLOSE


@pytest.mark.parametrize("variant", ["fast/small_s2_14x14", "latent_attn_tiny/options_s13"])
def test_assumptions_that_are_wrong_show(variant):
    """Which is why nobody takes them unasked."""
    with pytest.warns(UserWarning, match="assumed, not known"):
        agent = policy(METTA / variant, "pair", assume_preset=True)
    activate(METTA / variant, agent)
    assert differences(agent, oracle(METTA / variant)).most > 1e-3


@pytest.mark.parametrize(
    ("variant", "features"),
    [
        ("latent_attn_tiny/remap_s12", "features_second_env"),
        ("fast/two_action_sets_s4", "features"),
        ("fast/unactivated_s3", "features"),
        ("reference_design_fixed/small_s30", "features"),
    ],
)
def test_the_same_numbers_after_initialising_again(variant, features):
    folder = METTA / variant
    agent = policy(folder)
    for _ in range(2):
        activate(folder, agent, features)
        assert differences(agent, oracle(folder)).most <= CLOSE


def test_an_unactivated_agent_has_no_actions_until_it_met_an_environment():
    folder = METTA / "fast/unactivated_s3"
    agent = policy(folder)
    observation = oracle(folder)["zero_obs"][0]
    assert agent.evaluate(observation).logits.shape == (4, 0)
    for call in (agent.predict, agent):
        with pytest.raises(metta_hub.MettaHubError) as refused:
            call(observation)
        assert "initialize_to_environment" in refused.value.hint
    activate(folder, agent)
    facts = environment(folder)
    assert agent.action_names == facts["action_names"]
    assert agent.action_rows == facts["reserved_action_embeds"]
    assert agent.original_feature_mapping == {name: one["id"] for name, one in facts["features"].items()}


def test_going_back_to_the_first_actions_finds_their_embeddings():
    folder = METTA / "fast/two_action_sets_s4"
    agent, facts = policy(folder), environment(folder)
    names, most = facts["first_acts"]
    agent.initialize_to_environment(facts["features"], names, most)
    assert agent.components["_action_embeds_"].active_indices.tolist() == list(range(1, 10))
    logits = agent.evaluate(oracle(folder)["zero_obs"][0]).logits
    activate(folder, agent)
    theirs = oracle(folder)["zero_logits"][0]
    rows = [label for label in agent.actions.labels if agent.action_rows[label] < 10]
    for label in rows:
        ours = logits[:, agent.action_rows[label] - 1]
        assert (ours - theirs[:, agent.actions.labels.index(label)]).abs().max() <= CLOSE
    assert len(rows) == 9


@pytest.mark.parametrize("variant", ["fast/full_s0", "latent_attn_small/small_s21", "resmlp_value/small_s40"])
def test_what_metta_hub_writes_builds_by_its_model_info_alone(variant, tmp_path):
    """The example of Metta's document."""
    [old] = (METTA / variant / "old").glob("*.pt")
    [item] = metta_hub.migrate(old, output=tmp_path).migrated
    info = metta_hub.inspect(item.target).metadata["model_info"]
    model = metta_hub.create_model_from_metadata(info)
    model.load_state_dict(torch.load(item.target, weights_only=True))
    assert differences(model, oracle(METTA / variant)).most <= CLOSE
    assert model.action_names == environment(METTA / variant)["action_names"]


def test_a_pair_of_mettas_own_builds_by_its_model_info_and_its_weights():
    folder = METTA / "latent_attn_tiny/full_s10"
    [path] = (folder / "pair").glob("*.pt")
    metadata, state = metta_hub.inspect(path).metadata, torch.load(path, weights_only=True)
    info = metadata["model_info"]
    with pytest.raises(UnknownArchitectureError, match="MettaAgent"):
        metta_hub.create_model_from_metadata(info)
    model = metta_hub.create_model_from_metadata(info, state)
    model.load_state_dict(state)
    with pytest.raises(UsageError, match="which feature has which id"):
        activate(folder, model)  # model_info does not say it, and the weights are of features that have ids
    model.restore_original_feature_mapping(metadata["original_feature_mapping"])
    activate(folder, model)
    assert differences(model, oracle(folder)).most <= CLOSE


def test_the_agent_of_march_2025_is_refused_with_what_still_works():
    [path] = (METTA / "eras" / "agent_module_2025_03_20").glob("*.pt")
    with pytest.raises(UnknownArchitectureError, match=r"agent\.lib\.action\.ActionType") as refused:
        metta_hub.from_pretrained(path)
    assert "_action_type_" in refused.value.hint
    assert "pull" in refused.value.hint


ERAS = [
    "compiled_optimized_module/model_0005.pt",
    "ddp_distributed_metta_agent/model_0005.pt",
    "ddp_plain/model_0005.pt",
    "pair_from_module_migrator/model_0003.pt.old",
    "pickle_policy_record_2025_07_01/model_0003.pt",
    "synthetic_checkpoint_attr/model_0005.pt",
    "torch_package_2025_06_23/model_0003.pt",
]


@pytest.mark.parametrize("path", ERAS)
def test_every_era_runs(path):
    agent = metta_hub.from_pretrained(METTA / "eras" / path)
    action, _ = agent.predict(agent.example_observation(), deterministic=True)
    assert agent.name_of(action).rpartition("_")[0] in agent.action_names


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("compiled_optimized_module/model_0005.new.pt", "_orig_mod."),
        ("ddp_distributed_metta_agent/model_0005.new.pt", "module."),
    ],
)
def test_wrapped_names_load_and_it_is_said(path, prefix):
    record = METTA / "eras" / path.replace(".new", "")
    taken, assumed = f"'{prefix}' was taken off", "assumed, not known"
    with pytest.warns(UserWarning, match=assumed), pytest.warns(UserWarning, match=taken):
        agent = metta_hub.from_pretrained(METTA / "eras" / path, assume_preset=True)
    observation = agent.example_observation()[None]
    assert agent.evaluate(observation).logits.equal(metta_hub.from_pretrained(record).evaluate(observation).logits)


@pytest.mark.parametrize("folder", FULL, ids=name)
def test_push_adds_the_graph_of_a_shipped_agent_and_nothing_else_changes(folder, repo_id, tmp_path):
    [path] = (folder / "pair").glob("*.pt")
    commit = metta_hub.push(path, repo_id).commit
    pulled = metta_hub.pull(repo_id, tmp_path)
    known = formats.read(pulled.pt).metadata
    assert known.block["added"] == ["/model_info/architecture", "/model_info/observation_space"]
    assert known.values["model_info"]["observation_space"]["shape"] == environment(folder)["obs_shape"]
    assert pulled.identical
    assert metta_hub.verify(path, repo_id).ok
    assert not metta_hub.push(pulled.pt, repo_id).changed
    assert metta_hub.push(path, repo_id).commit == commit
    model = metta_hub.create_model_from_metadata(known.values)
    model.load_state_dict(torch.load(pulled.pt, weights_only=True))
    activate(folder, model)
    assert differences(model, oracle(folder)).most <= CLOSE
    assert differences(activated(folder, metta_hub.from_pretrained(repo_id)), oracle(folder)).most <= CLOSE


def activated(folder, agent):
    activate(folder, agent)
    return agent


def test_push_adds_no_graph_that_would_be_a_guess(repo_id, tmp_path):
    [path] = (METTA / "latent_attn_tiny" / "options_s13" / "pair").glob("*.pt")
    metta_hub.push(path, repo_id)
    known = formats.read(metta_hub.pull(repo_id, tmp_path).pt).metadata
    assert "architecture" not in known.values["model_info"]
    assert "added" not in known.block


THERE = """
import sys
from pathlib import Path
import torch
import metta_hub
from policies import oracles
torch.set_num_threads(1)
for repo, folder in zip(sys.argv[1::2], map(Path, sys.argv[2::2]), strict=True):
    agent = metta_hub.from_pretrained(repo)
    if not len(agent.actions):
        oracles.activate(folder, agent)
    print(oracles.differences(agent, oracles.oracle(folder)).most)
"""


@pytest.mark.parametrize(
    "folders", [VARIANTS[-3:], pytest.param(VARIANTS, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_records_give_mettas_numbers_through_the_hub_in_another_process(folders, repo_id):
    arguments = []
    for number, folder in enumerate(folders):
        [old] = (folder / "old").glob("*.pt")
        metta_hub.push(old, f"{repo_id}-{number}")
        arguments += [f"{repo_id}-{number}", folder]
    command = [sys.executable, "-W", "ignore", "-c", THERE, *arguments]
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    found = [float(line) for line in done.stdout.splitlines()]
    assert len(found) == len(folders)
    assert max(found) <= CLOSE
