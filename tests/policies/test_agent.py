"""Metta's agents as policies, on small ones made here: batches, time, precision, environments."""

import copy
import pickle

import pytest
import torch

from metta_hub.errors import UsageError
from metta_hub.policies.metta_agent import PolicyState
from policies.graphs import MOST, NAMES, PRESET, agent, features, observations

KINDS = sorted(PRESET)
#: Those in which the rows of a batch don't depend on each other.
BOXES = ["fast", "reference_design"]


@pytest.mark.parametrize("name", KINDS)
def test_any_batch_from_one_on(name):
    policy = agent(name)
    for batch in (1, 2, 7):
        out = policy.evaluate(observations(policy, batch))
        assert (out.logits.shape, out.value.shape) == ((batch, 7), (batch, 1))
        action, state = policy.predict(observations(policy, batch))
        assert (action.shape, state[0].shape) == ((batch, 2), (2, batch, 8))
    action, _ = policy.predict(observations(policy, 1)[0])
    assert policy.name_of(action) in policy.actions.labels


@pytest.mark.parametrize("name", BOXES)
def test_steps_one_by_one_are_the_same_as_a_sequence(name):
    policy = agent(name)
    seen = observations(policy, 3, 4)
    whole, state = policy.evaluate(seen), None
    for step in range(4):
        logits, value, state = policy.evaluate(seen[:, step], state)
        assert torch.allclose(logits, whole.logits.view(3, 4, -1)[:, step], atol=1e-6)
        assert torch.allclose(value, whole.value.view(3, 4, -1)[:, step], atol=1e-6)
    assert torch.allclose(state[1], whole.state[1], atol=1e-6)


def test_a_full_row_beside_padded_ones_is_cut_as_metta_cuts_it():
    """So that what a row gives depends on its batch: the specification, section 3.2."""
    policy = agent("latent_attn_tiny")
    seen = observations(policy, 2)
    seen[0, :, 0] = 1
    alone, beside = policy.evaluate(seen[:1]).logits, policy.evaluate(seen).logits[:1]
    assert not torch.allclose(alone, beside, atol=1e-4)
    longest = int((seen[1, :, 0] == 255).byte().argmax())
    cut = seen[:1].clone()
    cut[:, longest:, 0] = 255
    assert torch.allclose(policy.evaluate(cut).logits, beside, atol=1e-6)


def test_only_padding_is_an_observation_too():
    for name in KINDS:
        policy = agent(name)
        out = policy.evaluate(torch.full((2, 30, 3), 255, dtype=torch.uint8))
        assert out.logits.isfinite().all()


def test_of_two_tokens_in_one_cell_the_later_counts():
    policy = agent("fast")
    seen = torch.full((2, 30, 3), 255, dtype=torch.uint8)
    seen[0, :2] = torch.tensor([[17, 3, 9], [17, 3, 5]])
    seen[1, 0] = torch.tensor([17, 3, 5])
    box, _ = policy.components["_obs_"](seen)
    assert box[0].equal(box[1])
    assert box[0, 3, 1, 1] == 5


@pytest.mark.parametrize("token", [[0xB0, 1, 1], [0x0B, 1, 1], [0, 23, 1]])
def test_a_token_of_another_environment_is_refused(token):
    policy = agent("fast")
    seen = torch.full((1, 30, 3), 255, dtype=torch.uint8)
    seen[0, 0] = torch.tensor(token)
    with pytest.raises(UsageError, match="outside of the view"):
        policy.evaluate(seen)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", KINDS)
def test_other_precisions_give_nearly_the_same(name, dtype):
    policy = agent(name)
    seen = observations(policy, 4)
    expected, state = policy.evaluate(seen).logits.log_softmax(-1), policy.evaluate(seen).state
    other = agent(name).to(dtype)
    out = other.evaluate(seen, state)
    assert out.logits.dtype == out.value.dtype == out.state[0].dtype == dtype
    logits = other.evaluate(seen).logits.double().log_softmax(-1)
    assert torch.allclose(logits, expected.double(), atol=0.25 if dtype is torch.bfloat16 else 0.05)
    assert other.predict(seen)[0].shape == (4, 2)
    assert other(seen, PolicyState())[4].dtype == dtype


def test_a_policy_can_be_copied_and_pickled():
    policy = agent("latent_attn_small")
    seen = observations(policy, 3)
    for other in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert other.evaluate(seen).logits.equal(policy.evaluate(seen).logits)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        assert not other.evaluate(seen).logits.equal(policy.evaluate(seen).logits)


# --- Metta's own call ---


def test_mettas_call_updates_the_state_in_place_and_gives_log_probabilities():
    policy, state = agent("fast"), PolicyState()
    seen = observations(policy, 5)
    action, log_prob, entropy, value, log_probs = policy(seen, state)
    assert (action.shape, log_prob.shape, entropy.shape, value.shape, log_probs.shape) == (
        (5, 2),
        (5,),
        (5,),
        (5, 1),
        (5, 7),
    )
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(5))
    assert state.lstm_h.shape == (2, 5, 8)
    assert not state.lstm_h.requires_grad
    row = [policy.actions.pairs.index(tuple(pair)) for pair in action.tolist()]
    assert log_prob.equal(log_probs[range(5), row])
    before = state.lstm_c.clone()
    policy(seen, state)
    assert not state.lstm_c.equal(before)
    half = PolicyState(lstm_h=before)  # one of the two counts as none
    policy(seen, half)
    assert torch.allclose(half.lstm_c, before)


def test_given_actions_are_judged():
    policy = agent("latent_attn_small").train()
    seen = observations(policy, 3, 2)
    given = torch.tensor(policy.actions.pairs)[torch.arange(6)].reshape(3, 2, 2)
    action, log_prob, _, value, log_probs = policy(seen, PolicyState(), given)
    assert action.equal(given)
    assert log_prob.equal(log_probs[range(6), range(6)])
    (log_prob.sum() + value.sum()).backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())


@pytest.mark.parametrize("wrong", [[3, 0], [-1, 0], [0, 1], [1, 2], [2, -1], [2, 4], [10**6, 10**6]])
def test_given_actions_that_are_none_are_refused(wrong):
    policy = agent("fast")
    seen = observations(policy, 1, 2)
    with pytest.raises(UsageError, match="none of the policy's"):
        policy(seen, PolicyState(), torch.tensor([[[0, 0], wrong]]))


def test_drawn_actions_follow_the_probabilities():
    policy = agent("fast")
    seen = observations(policy, 1).expand(4_000, -1, -1)
    torch.manual_seed(3)
    action, *_, log_probs = policy(seen, PolicyState())
    rows = (action[:, None] == policy.action_index_tensor).all(-1).float().mean(0)
    assert torch.allclose(rows, log_probs[0].exp(), atol=0.05)


# --- environments ---


def test_moved_features_are_renumbered_by_name():
    policy = agent("latent_attn_tiny")
    seen = observations(policy, 4)
    policy.initialize_to_environment(features(), NAMES, MOST)
    factors = {row["id"]: row["normalization"] for row in features().values()}
    policy.components["obs_normalizer"].renormalize(factors)
    expected = policy.evaluate(seen).logits
    moved = seen.clone()
    real = seen[..., 0] != 255
    moved[..., 1] = torch.where(real, (seen[..., 1].int() + 5) % 23, seen[..., 1].int()).to(torch.uint8)
    policy.initialize_to_environment(features(move=5), NAMES, MOST)
    assert torch.allclose(policy.evaluate(moved).logits, expected, atol=1e-6)
    assert policy.original_feature_mapping == {name: one["id"] for name, one in features().items()}


@pytest.mark.parametrize("training", [False, True])
def test_a_new_feature_is_unknown_or_in_training_learned(training):
    policy = agent("latent_attn_tiny")
    policy.initialize_to_environment(features(), NAMES, MOST)
    policy.train(training)
    more = {**features(), "new": {"id": 40, "normalization": 3.0}}
    policy.initialize_to_environment(more, NAMES, MOST)
    assert ("new" in policy.original_feature_mapping) is training
    table = policy.components["_obs_"].feature_id_remap
    # In training nothing moved, so nothing is changed.
    assert table[40] == (40 if training else 255)
    assert table[:23].tolist() == list(range(23))
    assert table[200] == (200 if training else 255)


def test_an_environment_in_which_nothing_moved_keeps_the_earlier_renumbering():
    """As Metta does: the specification, section 3.8."""
    policy = agent("latent_attn_tiny")
    for move in (0, 5, 0):
        policy.initialize_to_environment(features(move=move), NAMES, MOST)
    assert policy.components["_obs_"].feature_id_remap[5] == 0


def test_actions_keep_their_embeddings_by_name_and_new_ones_get_new_rows():
    policy = agent("fast")
    seen = observations(policy, 4)
    before = policy.evaluate(seen).logits
    names, most = ["rotate", "jump", "noop"], [3, 1, 0]
    policy.initialize_to_environment(features(), names, most)
    after = policy.evaluate(seen).logits
    assert policy.components["_action_embeds_"].active_indices.tolist() == [4, 5, 6, 7, 8, 9, 1]
    assert torch.allclose(after[:, :4], before[:, 3:], atol=1e-6)
    assert torch.allclose(after[:, 6], before[:, 0], atol=1e-6)
    assert policy.action_names == names
    assert policy.action_max_params == most
    assert policy.name_of(policy.predict(seen[0])[0]) in policy.actions.labels
    policy.initialize_to_environment(features(), NAMES, MOST)
    assert torch.allclose(policy.evaluate(seen).logits, before, atol=1e-6)


@pytest.mark.parametrize(
    ("found", "names", "most"),
    [
        (features(), ["noop"], [0, 1]),
        (features(), ["noop", "noop"], [0, 0]),
        (features(), ["a", "a_1"], [11, 0]),
        (features(), ["noop"], [-1]),
        (features(), ["noop"], [10**9]),
        (features(), ["noop"], [30]),
        ({"hp": {"id": 256, "normalization": 1.0}}, NAMES, MOST),
        ({"hp": {"id": 1}, "mp": {"id": 1}}, NAMES, MOST),
        ({"hp": {"id": "1"}}, NAMES, MOST),
        ({"hp": {"id": 1, "normalization": "1"}}, NAMES, MOST),
    ],
)
def test_an_environment_that_makes_no_sense_leaves_the_policy_as_it_was(found, names, most):
    policy = agent("latent_attn_tiny")
    policy.initialize_to_environment(features(), NAMES, MOST)
    seen = observations(policy, 4)
    before, rows = policy.evaluate(seen).logits, policy.action_rows
    with pytest.raises(UsageError):
        policy.initialize_to_environment(found, names, most)
    assert policy.evaluate(seen).logits.equal(before)
    assert policy.action_rows == rows


def test_a_policy_that_does_not_know_its_rows_takes_its_own_actions_alone():
    policy = agent("fast", action_embedding_rows=None)
    policy.initialize_to_environment(features(), NAMES, MOST)
    assert policy.components["_action_embeds_"].active_indices.tolist() == list(range(1, 8))
    other = agent("fast", action_embedding_rows=None)
    with pytest.raises(UsageError, match="which row of its embeddings is whose"):
        other.initialize_to_environment(features(), ["noop", "jump"], [0, 1])


def test_dropout_is_for_training_alone():
    policy = agent("reference_design")
    seen = observations(policy, 8)
    assert policy.evaluate(seen).logits.equal(policy.evaluate(seen).logits)
    policy.train()
    assert not policy.evaluate(seen).logits.equal(policy.evaluate(seen).logits)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of what it does itself
@pytest.mark.parametrize("name", ["fast", "latent_attn_small"])
def test_compiled_it_gives_the_same(name):
    policy = agent(name)
    compiled = torch.compile(policy.evaluate)
    for batch in (1, 4):
        seen = observations(policy, batch)
        expected, ours = policy.evaluate(seen), compiled(seen)
        assert torch.allclose(ours.logits, expected.logits, atol=1e-5)
        assert torch.allclose(ours.value, expected.value, atol=1e-5)
    action, *_ = torch.compile(policy)(observations(policy, 4), PolicyState())
    assert action.shape == (4, 2)
