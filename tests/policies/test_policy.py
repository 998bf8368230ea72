"""What every policy does with observations, states and actions, whatever it computes."""

import pytest
import torch
from torch import nn

from metta_hub.actions import Actions
from metta_hub.errors import UsageError
from metta_hub.policies.policy import Policy, PolicyOutput
from metta_hub.policies.spaces import Box

MOVES = Actions(("noop", "move", "rotate"), (0, 1, 3))
PLAIN = Actions(("noop", "north", "south"))


class Counting(Policy):
    """Its logits and value come from the sum of an observation, and its state counts the steps."""

    def __init__(self, actions=MOVES, shape=(5, 3)):
        super().__init__(observation_space=Box(shape), actions=actions, num_layers=2, hidden_size=4)
        self.weight = nn.Parameter(torch.ones(len(actions)))

    def compute(self, observation, state):
        axes = len(self.observation_space.shape)
        rows = observation.flatten(-axes).to(self.dtype).sum(-1).reshape(-1, 1)
        steps = observation.shape[1] if observation.ndim > axes + 1 else 1
        return PolicyOutput(rows * self.weight, rows, (state[0] + steps, state[1] - steps))


def observations(*batch, policy):
    return torch.stack([policy.example_observation()] * 6)[: batch[0]] if batch else policy.example_observation()


def test_evaluate_gives_rows_and_the_next_state():
    policy = Counting()
    out = policy.evaluate(observations(3, policy=policy))
    assert (out.logits.shape, out.value.shape) == ((3, 7), (3, 1))
    assert out.state[0].shape == out.state[1].shape == (2, 3, 4)
    again = policy.evaluate(observations(3, policy=policy), out.state)
    assert (again.state[0] == 2).all()
    assert (again.state[1] == -2).all()


def test_time_is_folded_into_rows_batch_first():
    policy = Counting()
    steps = torch.arange(2 * 4, dtype=torch.uint8).reshape(2, 4, 1, 1).expand(2, 4, 5, 3)
    out = policy.evaluate(steps)
    assert out.value.flatten().tolist() == [15.0 * row for row in range(8)]
    assert out.state[0].shape == (2, 2, 4)


@pytest.mark.parametrize(("actions", "one", "many"), [(MOVES, (2,), (4, 2)), (PLAIN, (), (4,))])
def test_predict_gives_back_what_it_got_batched_or_not(actions, one, many):
    policy = Counting(actions)
    action, state = policy.predict(observations(policy=policy))
    assert (action.shape, action.dtype, state[0].shape) == (one, torch.int64, (2, 1, 4))
    action, state = policy.predict(observations(4, policy=policy), None)
    assert (action.shape, state[1].shape) == (many, (2, 4, 4))
    assert policy.name_of(action[0]) in actions.labels


def test_deterministic_takes_the_likeliest_and_otherwise_it_is_drawn():
    policy = Counting()
    policy.weight.data = torch.tensor([0.0, 0, 0, 0.001, 0, 0, 0.001])
    batch = torch.ones(500, 5, 3, dtype=torch.uint8)
    assert {tuple(action) for action in policy.predict(batch, deterministic=True)[0].tolist()} == {(2, 0)}
    torch.manual_seed(1)
    drawn = {tuple(action) for action in policy.predict(batch)[0].tolist()}
    assert drawn == set(MOVES.pairs)


def test_actions_have_names():
    policy = Counting()
    assert policy.action_names == ["noop", "move", "rotate"]
    assert policy.name_of(torch.tensor([2, 3])) == "rotate_3"
    assert policy.name_of([1, 0]) == "move_0"
    assert Counting(PLAIN).name_of(2) == Counting(PLAIN).name_of(torch.tensor(2)) == "south"
    for unknown in ([1, 2], [-1, 0], 1, [0], [1, 0, 0]):
        with pytest.raises(UsageError, match="no action"):
            policy.name_of(unknown)


def test_a_policy_without_actions_says_what_to_do():
    with pytest.raises(UsageError) as refused:
        Counting(Actions((), ())).predict(torch.zeros(5, 3, dtype=torch.uint8))
    assert "initialize_to_environment" in refused.value.hint


def test_arrays_and_other_whole_numbers_are_taken():
    policy = Counting()
    expected = policy.evaluate(torch.full((1, 5, 3), 200, dtype=torch.uint8)).value
    assert policy.evaluate([[[200] * 3] * 5]).value == expected
    assert policy.evaluate(torch.full((1, 5, 3), 200)).value == expected


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 5, 3),
        torch.full((1, 5, 3), 256),
        torch.full((1, 5, 3), -1),
        torch.zeros(1, 4, 3, dtype=torch.uint8),
        torch.zeros(0, 5, 3, dtype=torch.uint8),
        torch.zeros(1, 1, 1, 5, 3, dtype=torch.uint8),
        torch.zeros(5, 3, dtype=torch.uint8),
        torch.zeros(3, dtype=torch.uint8),
    ],
    ids=lambda tensor: f"{tensor.dtype}{list(tensor.shape)}",
)
def test_what_is_no_observation_is_refused(wrong):
    with pytest.raises(UsageError):
        Counting().evaluate(wrong)


def test_a_state_of_another_batch_is_refused():
    policy = Counting()
    with pytest.raises(UsageError, match="does not fit 2 observations"):
        policy.evaluate(observations(2, policy=policy), policy.initial_state(3))


def test_half_precision_takes_states_of_any_precision():
    policy = Counting().to(torch.bfloat16)
    out = policy.evaluate(observations(2, policy=policy), Counting().initial_state(2))
    assert out.logits.dtype == out.state[0].dtype == torch.bfloat16
    assert policy.predict(observations(2, policy=policy))[0].shape == (2, 2)


@pytest.mark.parametrize("shape", [(200, 3), (11, 11, 4), (1, 3)])
def test_an_example_is_an_observation_and_always_the_same(shape):
    policy = Counting(shape=shape)
    example = policy.example_observation()
    assert (tuple(example.shape), example.dtype) == (shape, torch.uint8)
    assert torch.equal(example, Counting(shape=shape).example_observation())
    assert example.any()
    assert policy.evaluate(example[None]).logits.shape == (1, 7)


def test_an_example_of_tokens_lies_in_the_view():
    policy = Counting(shape=(50, 3))
    policy.view, policy.feature_ids = (3, 5), (7,)
    tokens = policy.example_observation()
    seen = tokens[tokens[:, 0] != 255]
    assert len(seen) == 25
    assert (seen[:, 0] // 16).max() == 2
    assert (seen[:, 0] % 16).max() == 4
    assert set(seen[:, 1].tolist()) == {7}
