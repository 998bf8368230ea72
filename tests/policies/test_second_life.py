"""Policies that are saved, made from metadata, begun anew: what they were built from stays with them."""

import json

import pytest
import torch

import metta_hub
from metta_hub import errors, policies
from policies.graphs import NAMES, agent
from support import DATA

RECORD = DATA / "records" / "model_0005.pt"
TINY = next((DATA / "pairs" / "tiny_small").glob("*.pt"))


def same(one, other):
    observation = one.example_observation()[None]
    return torch.allclose(one.evaluate(observation).logits, other.evaluate(observation).logits, atol=1e-6)


def test_a_folder_with_one_pair_is_that_pair(tmp_path):
    """The round trip as people type it: save_pretrained into a folder, from_pretrained of the folder."""
    policy = metta_hub.from_pretrained(RECORD)
    metta_hub.save_pretrained(policy, tmp_path / "folder")
    assert same(metta_hub.from_pretrained(tmp_path / "folder"), policy)
    assert metta_hub.try_policy(tmp_path / "folder").checkpoint == "model_0005"
    metta_hub.save_pretrained(policy, tmp_path / "folder", name="another")
    with pytest.raises(errors.FormatError, match="the folder is not"):
        metta_hub.from_pretrained(tmp_path / "folder")


@pytest.mark.parametrize("whole", [False, True])
def test_a_model_made_from_metadata_is_saved_with_its_architecture(tmp_path, whole):
    metta_hub.migrate_checkpoint(RECORD, tmp_path / "model_0001.pt")
    metadata = json.loads((tmp_path / "model_0001.json").read_text())
    model = metta_hub.create_model_from_metadata(metadata if whole else metadata["model_info"])
    model.load_state_dict(torch.load(tmp_path / "model_0001.pt", weights_only=True))
    saved = metta_hub.save_pretrained(model, tmp_path / "saved")
    assert same(metta_hub.from_pretrained(saved.pt), model)
    document = json.loads(saved.json.read_text())
    assert metta_hub.create_model_from_metadata(document["model_info"]).action_names == model.action_names


def test_what_was_assumed_stays_with_a_policy_that_is_saved_or_pushed(tmp_path, repo_id):
    with pytest.warns(UserWarning, match="was assumed"):
        policy = metta_hub.from_pretrained(TINY, assume_preset=True)
    saved = metta_hub.save_pretrained(policy, tmp_path)
    block = json.loads(saved.json.read_text())["metta_hub"]
    assert "/model_info/architecture" in block["added"]
    assert any("num_heads" in pointer for pointer in block["assumed"])
    for target in (saved.pt, metta_hub.push(policy, repo_id).repo_id):
        with pytest.warns(UserWarning, match="was assumed, not known: .*num_heads"):
            assert same(metta_hub.from_pretrained(target), policy)


def test_what_is_assumed_is_said_on_the_command_line(cli):
    assert "assumed, not known" in cli("try", TINY, "--assume-preset").stderr


def test_features_of_another_environment_are_not_taken_for_known_ones(tmp_path):
    """Weights that learned features, and metadata that do not say which: refused, and nothing is changed."""
    model = agent("latent_attn_tiny")
    model.load_state_dict(agent("latent_attn_tiny").state_dict())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features = {"hp": {"id": 1, "normalization": 1.0}}
    with pytest.raises(errors.UsageError, match="which feature has which id"):
        model.initialize_to_environment(features, NAMES, [0, 1, 3])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.restore_original_feature_mapping({"hp": 3})
    model.initialize_to_environment(features, NAMES, [0, 1, 3])
    assert model.components["_obs_"].feature_id_remap[1] == 3


def test_a_device_that_is_not_there_changes_nothing():
    model = agent("fast")
    names = model.action_names
    with pytest.raises(errors.UsageError, match="no device 'gpu'"):
        model.initialize_to_environment({"hp": {"id": 1, "normalization": 1.0}}, ["jump"], [0], device="gpu")
    assert model.action_names == names


@pytest.mark.parametrize(
    "arguments",
    [
        (None, ["a"], [0]),
        ({"hp": 1}, ["a"], [0]),
        ({}, [], []),
        ({}, "noop", [0]),
        ({}, ["a"], None),
        ({}, ["a"], [-1]),
    ],
)
def test_what_is_no_environment_is_refused_with_what_is_one(arguments):
    with pytest.raises(errors.UsageError) as caught:
        agent("fast").initialize_to_environment(*arguments)
    assert "initialize_to_environment" in caught.value.hint


def test_an_episode_that_begins_forgets_the_state():
    policy = metta_hub.from_pretrained(RECORD)
    batch = torch.stack([policy.example_observation(number) for number in range(2)])
    _, state = policy.predict(batch, deterministic=True)
    _, begun = policy.predict(batch, state, [True, False], deterministic=True)
    _, kept = policy.predict(batch, state, deterministic=True)
    _, fresh = policy.predict(batch, deterministic=True)
    torch.testing.assert_close(begun[0][:, 0], fresh[0][:, 0])
    torch.testing.assert_close(begun[0][:, 1], kept[0][:, 1])
    assert not torch.allclose(fresh[0][:, 0], kept[0][:, 0])
    with pytest.raises(errors.UsageError, match="episode_start"):
        policy.predict(batch, state, [True])


@pytest.mark.parametrize("given", [None, "x", {}, [[1], [1, 2]], torch.zeros(200, 3).to_sparse(), torch.ones(2, 2)])
def test_what_is_no_observation_is_refused_in_words(given):
    with pytest.raises(errors.UsageError):
        metta_hub.from_pretrained(RECORD).predict(given)


@pytest.mark.parametrize("state", [5, (None, None), "x", (torch.ones(1),) * 3])
def test_what_is_no_state_is_refused_in_words(state):
    policy = metta_hub.from_pretrained(RECORD)
    with pytest.raises(errors.UsageError):
        policy.predict(policy.example_observation(), state)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int64])
def test_observations_of_other_whole_numbers_are_taken(dtype):
    policy = metta_hub.from_pretrained(RECORD)
    observation = policy.example_observation()
    expected = policy.evaluate(observation[None]).logits
    assert torch.equal(policy.evaluate(observation[None].to(dtype)).logits, expected)


def spoiled(tmp_path, change):
    metta_hub.migrate_checkpoint(RECORD, tmp_path / "model_0001.pt")
    state = torch.load(tmp_path / "model_0001.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "model_0001.pt")
    document = json.loads((tmp_path / "model_0001.json").read_text())
    del document["metta_hub"]["weights"]
    (tmp_path / "model_0001.json").write_text(json.dumps(document))
    return tmp_path / "model_0001.pt"


def replaced(name, make):
    return lambda state: state.update({name: make(state[name])})


VALUE, ROWS = "components._value_._net.weight", "components._action_embeds_.active_indices"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced(VALUE, lambda tensor: tensor.long()), "another dtype"),
        (replaced(VALUE, lambda tensor: tensor.to(torch.complex64)), "another dtype"),
        (replaced(VALUE, lambda tensor: tensor.to(torch.float8_e4m3fn)), "another dtype"),
        (replaced(VALUE, lambda tensor: tensor.half()), "another dtype"),
        (replaced(ROWS, lambda tensor: tensor.float()), "another dtype"),
        (replaced(ROWS, lambda tensor: tensor + 1000), "an action has row"),
        (replaced(ROWS, lambda tensor: -tensor), "an action has row"),
    ],
)
def test_weights_of_another_kind_are_one_explained_error(tmp_path, change, words):
    with pytest.raises(errors.WeightsMismatchError, match=words):
        metta_hub.from_pretrained(spoiled(tmp_path, change))


def test_weights_of_two_precisions_load_as_one(tmp_path):
    path = spoiled(tmp_path, replaced(VALUE, lambda tensor: tensor.half()))
    policy = metta_hub.from_pretrained(path, dtype="float32")
    assert policy.evaluate(policy.example_observation()[None]).value.dtype == torch.float32


def test_values_that_are_no_numbers_are_an_error_of_try(tmp_path, cli):
    path = spoiled(
        tmp_path, lambda state: [tensor.fill_(torch.nan) for name, tensor in state.items() if "_action_.W" in name]
    )
    assert "no numbers (NaN)" in cli("try", path, "--json", code=2).stderr


def test_a_plain_state_dict_of_an_agent_needs_only_what_it_observes(tmp_path):
    """Its names show what it is of; what it saw, nothing but metadata can say."""
    policy = agent("fast")
    torch.save({"model_state_dict": policy.state_dict()}, tmp_path / "model_0001.pt")
    with pytest.raises(errors.ArchitectureError, match="what it observes"):
        metta_hub.from_pretrained(tmp_path / "model_0001.pt")


def test_too_many_actions_are_refused_before_they_are_listed(tmp_path):
    metta_hub.migrate_checkpoint(RECORD, tmp_path / "model_0001.pt")
    document = json.loads((tmp_path / "model_0001.json").read_text())
    document["model_info"]["action_max_params"] = [65_535] * 500
    (tmp_path / "model_0001.json").write_text(json.dumps(document))
    with pytest.raises(errors.ArchitectureError, match="more than 16,384 actions"):
        metta_hub.from_pretrained(tmp_path / "model_0001.pt")


def test_a_builder_that_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(policies, "_BUILDERS", {})
    with pytest.raises(errors.BadTypeError):
        metta_hub.register("Mine", 5)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".."])
def test_a_policy_is_saved_in_the_folder_and_nowhere_else(tmp_path, name):
    if not name:
        assert metta_hub.save_pretrained(agent("fast"), tmp_path, name=name).pt == tmp_path / "policy.pt"
        return
    with pytest.raises(errors.BadNameError):
        metta_hub.save_pretrained(agent("fast"), tmp_path / "folder", name=name)
    assert not list(tmp_path.rglob("*.pt"))


def test_a_package_makes_its_architecture_known(tmp_path, monkeypatch):
    """By an entry point, which is looked up by the name that metadata have; nothing else of it is imported."""
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[metta_hub.policies]\nMine = mine_policies:build\n")
    (tmp_path / "mine_policies.py").write_text("import torch\n\ndef build(info):\n    return torch.nn.Linear(2, 3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(policies, "_BUILDERS", {})
    assert "Mine" in policies.known()
    saved = metta_hub.save_pretrained(torch.nn.Linear(2, 3), tmp_path / "saved")
    document = json.loads(saved.json.read_text())
    document["model_info"] |= {"type": "Mine", "module_name": "elsewhere"}
    saved.json.write_text(json.dumps(document))
    assert isinstance(metta_hub.from_pretrained(saved.pt), torch.nn.Linear)


def test_a_policy_that_is_loaded_in_part_is_not_much_larger_than_its_file(tmp_path):
    metta_hub.migrate_checkpoint(RECORD, tmp_path / "model_0001.pt")
    document = json.loads((tmp_path / "model_0001.json").read_text())
    for wide in ("fc1", "encoded_obs"):
        document["model_info"]["architecture"]["components"][wide]["nn_params"]["out_features"] = 10_000
    (tmp_path / "model_0001.json").write_text(json.dumps(document))
    with pytest.raises(errors.WeightsMismatchError, match="of which the checkpoint has"):
        metta_hub.from_pretrained(tmp_path / "model_0001.pt", strict=False)


def test_a_store_can_assume_a_preset():
    with pytest.warns(UserWarning, match="was assumed"):
        policy = metta_hub.PolicyStore({"assume_preset": True}).load_from_uri(str(TINY)).policy
    assert policy.assumed
    with pytest.raises(errors.AssumptionError):
        _ = metta_hub.PolicyStore({}).load_from_uri(str(TINY)).policy
