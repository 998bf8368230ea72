"""mettagrid's LSTM policy as a built-in architecture: its numbers, where its sizes come from, and what is refused.

`data/mettagrid_lstm.json` is what mettagrid 0.26.22 itself computed (`lstm_reference.py`); `flows/test_mettagrid.py`
asks it live.
"""

import json
import subprocess
import sys

import pytest
import torch

import bundles
import lstm_reference as reference
import metta_hub
from metta_hub import errors
from support import DATA

RECORDED = json.loads((DATA / "mettagrid_lstm.json").read_text())
PT = DATA / "run" / "model_000140.pt"
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture
def pair(tmp_path):
    """A pair of the reference's weights; its `model_info` can be changed."""

    def make(name="model_0001", **info):
        torch.save(reference.weights(), tmp_path / f"{name}.pt")
        attributes = {
            "observation_space": {"type": "Box", "shape": [*reference.SHAPE], "dtype": "uint8"},
            "action_space": {"type": "Discrete", "n": len(reference.ACTIONS)},
        }
        known = {"type": "LSTMPolicy", "module_name": "mettagrid.policy.lstm", "agent_attributes": attributes} | info
        values = {"epoch": 1, "action_names": reference.ACTIONS, "model_info": known}
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
        return tmp_path / f"{name}.pt"

    return make


@pytest.fixture
def policy(pair):
    return metta_hub.from_pretrained(pair())


@pytest.mark.parametrize("name", reference.cases())
def test_the_numbers_are_mettagrids(name, policy):
    observations = reference.cases()[name]
    out = policy.evaluate(observations)
    torch.testing.assert_close(out.logits, torch.tensor(RECORDED[name]["logits"]), **CLOSE)
    torch.testing.assert_close(out.value, torch.tensor(RECORDED[name]["values"]), **CLOSE)
    logits, value = policy(observations)
    assert logits.equal(out.logits)
    assert value.equal(out.value)


def test_step_by_step_they_are_too(policy):
    state, theirs = None, {"lstm_h": None, "lstm_c": None}
    for observations, expected in zip(reference.steps(), RECORDED["steps"], strict=True):
        out = policy.evaluate(observations, state)
        torch.testing.assert_close(out.logits, torch.tensor(expected["logits"]), **CLOSE)
        torch.testing.assert_close(out.value, torch.tensor(expected["values"]), **CLOSE)
        assert policy(observations, theirs)[0].equal(out.logits)  # the state in a dict, as PufferLib keeps it
        if state is not None:
            assert policy(observations, state)[0].equal(out.logits)
        state = out.state
    for key, part in zip(("lstm_h", "lstm_c"), state, strict=True):
        torch.testing.assert_close(part[0, :, :8], torch.tensor(RECORDED[key[-1]]), **CLOSE)
        assert theirs[key].equal(part.transpose(0, 1))


def test_steps_give_what_a_sequence_gives(policy):
    observations, state = reference.cases()["two sequences"], None
    whole = policy.evaluate(observations)
    rows = []
    for step in observations.unbind(1):
        out = policy.evaluate(step, state)
        rows.append(out.logits)
        state = out.state
    torch.testing.assert_close(torch.stack(rows, 1).flatten(0, 1), whole.logits, **CLOSE)
    torch.testing.assert_close(state, whole.state, **CLOSE)


@pytest.mark.parametrize("axes", [1, 2])
def test_a_state_may_lack_axes_as_in_mettagrid(axes, policy):
    observations = reference.cases()["bytes"][:1]
    state = policy.evaluate(observations).state
    expected = policy.evaluate(observations, state).logits
    short = tuple(part[(0,) * (3 - axes)] for part in state)
    assert policy(observations, short)[0].equal(expected)
    assert policy(observations, {"lstm_h": short[0], "lstm_c": short[1]})[0].equal(expected)


def test_a_real_policy_acts(tmp_path, repo_id):
    metta_hub.push(PT, repo_id)
    policy = metta_hub.from_pretrained(repo_id)
    assert policy.action_names == ["noop", "move_north", "move_south", "move_west", "move_east"]
    assert (policy.observation_space.shape, policy.hidden_size, policy.num_layers) == ((48, 3), 128, 1)
    action, state = policy.predict(policy.example_observation(), deterministic=True)
    assert policy.name_of(action) in policy.action_names
    assert state[0].shape == (1, 1, 128)
    assert list(policy.state_dict()) == list(torch.load(PT))
    assert not policy.training


def test_it_can_be_trained_on(policy):
    policy.train()
    before = policy.evaluate(reference.cases()["bytes"])
    before.logits.sum().backward()
    assert all(parameter.grad is not None for name, parameter in policy.named_parameters() if "value" not in name)
    torch.optim.SGD(policy.parameters(), lr=0.1).step()
    assert not policy.evaluate(reference.cases()["bytes"]).logits.equal(before.logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_compute_the_same_roughly(dtype, policy):
    expected = policy.evaluate(reference.cases()["bytes"]).logits
    found = policy.to(dtype).evaluate(reference.cases()["bytes"])
    assert found.logits.dtype == found.state[0].dtype == dtype
    torch.testing.assert_close(found.logits.float(), expected, atol=0.02, rtol=0)


# --- bundles ---


@pytest.mark.parametrize("kind", ["folder", "zip", "published", "exported"])
@pytest.mark.parametrize("class_path", ["mettagrid.policy.lstm.LSTMPolicy", "lstm"])
def test_bundles_of_it_run(kind, class_path, tmp_path, repo_id):
    source = bundles.folder(tmp_path / "hearts.lstm:v140", bundles.LSTM | {"class_path": class_path})
    if kind == "zip":
        source = bundles.zipped(source, tmp_path / "zipped.lstm:v140.zip")
    elif kind != "folder":
        metta_hub.push(source, repo_id)
        source = repo_id if kind == "published" else metta_hub.export(repo_id, tmp_path / "out").path
    policy, expected = metta_hub.from_pretrained(source), metta_hub.from_pretrained(PT)
    observations = torch.stack([policy.example_observation(), expected.example_observation()])
    assert policy.evaluate(observations).logits.equal(expected.evaluate(observations).logits)
    assert (policy.action_names, policy.view, policy.feature_ids) == (expected.action_names, (7, 7), (0,))


def test_a_bundle_that_tells_nothing_of_its_environment_is_sized_by_its_weights(tmp_path):
    spec = {key: value for key, value in bundles.LSTM.items() if key != "policy_env_interface"}
    policy = metta_hub.from_pretrained(bundles.folder(tmp_path / "hearts.lstm:v140", spec))
    assert policy.observation_space.shape == (48, 3)
    assert (policy.action_names, len(policy.actions)) == ([], 5)
    assert policy.name_of(4) == "action_4"


def test_a_bare_state_dict_shows_all_of_it_but_the_names(tmp_path):
    """What cogames leaves in a run's folder."""
    torch.save(reference.weights(), tmp_path / "model_000140.pt")
    policy = metta_hub.from_pretrained(tmp_path / "model_000140.pt")
    expected = torch.tensor(RECORDED["bytes"]["logits"])
    torch.testing.assert_close(policy.evaluate(reference.cases()["bytes"]).logits, expected, **CLOSE)
    assert policy.action_names == []
    record = metta_hub.PolicyStore().load_from_uri(f"pytorch://{tmp_path}/model_000140.pt")
    assert record.policy.evaluate(reference.cases()["bytes"]).logits.equal(
        policy.evaluate(reference.cases()["bytes"]).logits
    )


@pytest.mark.parametrize("change", ["more", "fewer", "other shape"])
def test_what_only_looks_like_it_is_not_taken_for_it(change, tmp_path):
    state = reference.weights()
    if change == "more":
        state["_critic.weight"] = torch.zeros(2, 2)
    elif change == "fewer":
        del state["_rnn.bias_hh_l0"]
    else:
        state["_rnn.bias_hh_l0"] = torch.zeros(3)
    torch.save(state, tmp_path / "model_0001.pt")
    with pytest.raises(errors.UnknownArchitectureError, match="'unknown'"):
        metta_hub.from_pretrained(tmp_path / "model_0001.pt")


# --- the store ---


def test_it_is_saved_by_the_store_as_what_it_is(pair, tmp_path, policy):
    store = metta_hub.PolicyStore({"device": "cpu"})
    record = store.load_from_uri(str(pair()))
    assert record.num_params == sum(tensor.numel() for tensor in reference.weights().values())
    store.save(record, tmp_path / "again_0001.pt")
    fresh = metta_hub.PolicyRecord(store, "fresh", None, {"epoch": 3})
    fresh.policy = policy
    store.save(fresh, tmp_path / "fresh_0003.pt")
    for name in ("again_0001", "fresh_0003"):
        read = metta_hub.PolicyStore().load_from_uri(f"{tmp_path}/{name}.pt")
        assert read.metadata.action_names == reference.ACTIONS
        assert read.metadata.model_info["module_name"] == "mettagrid.policy.lstm"
        assert read.policy.evaluate(reference.steps()[0]).logits.equal(policy.evaluate(reference.steps()[0]).logits)


def test_names_that_nobody_knows_are_not_made_up_in_what_is_saved(tmp_path):
    torch.save(reference.weights(), tmp_path / "model_0001.pt")
    store = metta_hub.PolicyStore()
    saved = store.save(store.load_from_uri(f"{tmp_path}/model_0001.pt"), tmp_path / "new_0001.pt")
    assert "action_names" not in saved.metadata
    assert len(saved.policy.actions) == 3


# --- what files may ask for ---


BOX = {"type": "Box", "shape": [*reference.SHAPE], "dtype": "uint8"}


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"hidden_size": 1_000_000_000}, "its hidden_size is 1,000,000,000"),
        ({"hidden_size": 65_536}, "parameters, and 500,000,000 are the most"),
        ({"hidden_size": -128}, "its hidden_size is -128"),
        ({"num_lstm_layers": 1_000_000_000}, "its num_lstm_layers is 1,000,000,000"),
        ({"agent_attributes": {"action_space": {"n": 1_000_000_000}}}, "n of its action_space is 1,000,000,000"),
        ({"agent_attributes": {"observation_space": {"shape": [65_536, 65_536]}}}, "500,000,000 are the most"),
        ({"agent_attributes": {"observation_space": {"shape": [1 << 62, 3]}}}, "an axis of its observations is"),
        ({"agent_attributes": {"observation_space": {"shape": [6, 0]}}}, "an axis of its observations is 0"),
        ({"agent_attributes": {"observation_space": BOX | {"dtype": "float32"}}}, "its observations are float32"),
        ({"agent_attributes": {"action_space": {"type": "Discrete", "n": 4}}}, "it names 3 actions and has 4"),
    ],
)
def test_sizes_that_no_policy_has_are_refused_before_anything_is_made(info, said, pair, monkeypatch):
    path = pair(**info)
    monkeypatch.setattr(torch.nn, "LSTM", None)  # nothing may come as far as making one
    with pytest.raises(errors.ArchitectureError, match=said):
        metta_hub.from_pretrained(path)


@pytest.mark.parametrize(
    "info",
    [
        {"hidden_size": "many", "num_lstm_layers": None, "agent_attributes": "none"},
        {"agent_attributes": {"observation_space": {"shape": "[6, 3"}, "action_space": {"n": "three"}}},
        {"agent_attributes": {"observation_space": {"shape": [6.5, 3]}, "action_space": [3]}},
    ],
)
def test_sizes_that_cannot_be_read_are_those_of_the_weights(info, pair):
    policy = metta_hub.from_pretrained(pair(**info))
    assert (policy.observation_space.shape, policy.hidden_size, len(policy.actions)) == ((6, 3), 128, 3)


def test_metadata_of_another_size_than_the_weights_are_explained(pair):
    with pytest.raises(errors.WeightsMismatchError) as caught:
        metta_hub.from_pretrained(pair(hidden_size=64, num_lstm_layers=2))
    assert "_rnn.weight_hh_l1" in caught.value.missing
    assert "_net.0.weight: [128, 18] for [64, 18]" in caught.value.misshapen


def test_metadata_alone_that_say_too_little_are_refused(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "model_0001.pt")
    (tmp_path / "model_0001.json").write_text(json.dumps({"model_info": {"type": "LSTMPolicy"}}))
    with pytest.raises(errors.ArchitectureError, match="neither metadata nor weights say"):
        metta_hub.from_pretrained(tmp_path / "model_0001.pt")


@pytest.mark.parametrize("kind", ["antigravity", "os.system", "mettagrid_lstm"])
def test_names_in_files_are_looked_up_and_never_imported(kind, pair, tmp_path):
    bundle = bundles.folder(tmp_path / "evil:v1", bundles.LSTM | {"class_path": f"antigravity.{kind}"})
    for path in (pair(type=kind, module_name="antigravity"), bundle):
        with pytest.raises(errors.UnknownArchitectureError, match="known: LSTMPolicy, MettaAgent, lstm"):
            metta_hub.from_pretrained(path)
    assert "antigravity" not in sys.modules


def test_a_path_is_no_name(pair, tmp_path):
    bundle = bundles.folder(tmp_path / "evil:v1", bundles.LSTM | {"class_path": "antigravity.../mettagrid_lstm"})
    with pytest.raises(errors.FormatError, match="class_path is not a text that names a class"):
        metta_hub.from_pretrained(bundle)
    with pytest.raises(errors.UnknownArchitectureError, match="known: LSTMPolicy, MettaAgent, lstm"):
        metta_hub.from_pretrained(pair(type="../mettagrid_lstm", module_name="antigravity"))


@pytest.mark.parametrize("kind", ["", None, ["LSTMPolicy"]])
def test_no_name_is_no_name(kind, pair):
    assert metta_hub.from_pretrained(pair(type=kind)).hidden_size == 128  # the weights show what they are of


def test_what_is_built_in_is_known_without_torch():
    code = "import sys; from metta_hub import policies; print(policies.known(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('LSTMPolicy', 'MettaAgent', 'lstm') False\n"


def test_a_builder_of_ones_own_goes_before(pair, monkeypatch):
    monkeypatch.setattr("metta_hub.policies._BUILDERS", {})
    made = torch.nn.Linear(1, 1)
    metta_hub.register("LSTMPolicy", lambda info: made)
    with pytest.raises(errors.WeightsMismatchError):
        metta_hub.from_pretrained(pair())


def test_the_example_of_mettas_document_works():
    info = json.loads(PT.with_suffix(".json").read_text())["model_info"]
    model = metta_hub.create_model_from_metadata(info)
    model.load_state_dict(torch.load(PT))
    observations = torch.stack([model.example_observation()] * 2)
    expected = metta_hub.from_pretrained(PT).evaluate(observations)
    assert model.evaluate(observations).logits.equal(expected.logits)
    given = metta_hub.create_model_from_metadata({"type": "lstm"}, torch.load(PT))  # all sizes are those of the weights
    assert given.evaluate(observations).logits.equal(expected.logits)
