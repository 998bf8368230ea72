"""What mettagrid's own LSTM policy computes of weights and observations that both sides can make: no file of weights.

`python tests/lstm_reference.py > tests/data/mettagrid_lstm.json` with the Python of .venv-loader records it;
`scripts/loader` does it again and compares.
"""

import json

import torch

SHAPE, ACTIONS, WIDTH = (6, 3), ["noop", "move_north", "move_south"], 128
SHAPES = {
    "_net.0.weight": (WIDTH, 18),
    "_net.0.bias": (WIDTH,),
    "_net.2.weight": (WIDTH, WIDTH),
    "_net.2.bias": (WIDTH,),
    "_rnn.weight_ih_l0": (4 * WIDTH, WIDTH),
    "_rnn.weight_hh_l0": (4 * WIDTH, WIDTH),
    "_rnn.bias_ih_l0": (4 * WIDTH,),
    "_rnn.bias_hh_l0": (4 * WIDTH,),
    "_action_head.weight": (len(ACTIONS), WIDTH),
    "_action_head.bias": (len(ACTIONS),),
    "_value_head.weight": (1, WIDTH),
    "_value_head.bias": (1,),
}


def mixed(count, salt):
    """Whole numbers that look random and are the same everywhere."""
    numbers = torch.arange(count, dtype=torch.int64) + salt * 7919
    for _ in range(3):
        numbers = (numbers * 6_364_136 + 1_442_695) % 2_147_483_647
        numbers ^= numbers >> 13
    return numbers


def weights():
    """A state dict whose outputs depend on what is seen."""
    state = {}
    for salt, (name, shape) in enumerate(SHAPES.items()):
        count = torch.Size(shape).numel()
        state[name] = ((mixed(count, salt) % 2001 - 1000).double() / 4000).float().reshape(shape)
    return state


def cases():
    """Name → observations [B, T, …] or [B, …], uint8."""
    return {
        "bytes": (mixed(4 * 18, 101) % 256).to(torch.uint8).reshape(4, *SHAPE),
        "nothing above 1": (mixed(3 * 18, 102) % 2).to(torch.uint8).reshape(3, *SHAPE),
        "one 2 scales all": torch.where(torch.arange(36) == 30, 2, mixed(36, 103) % 2)
        .to(torch.uint8)
        .reshape(2, *SHAPE),
        "two sequences": (mixed(2 * 5 * 18, 104) % 256).to(torch.uint8).reshape(2, 5, *SHAPE),
    }


def steps():
    """Observations [T, B, …] of which each call sees one step and gets the state of the one before."""
    return (mixed(4 * 2 * 18, 105) % 256).to(torch.uint8).reshape(4, 2, *SHAPE)


def _recorded():
    from mettagrid.policy.lstm import LSTMPolicy
    from mettagrid.policy.policy_env_interface import PolicyEnvInterface

    environment = PolicyEnvInterface(
        obs_features=[], action_names=ACTIONS, observation_shape=list(SHAPE), egocentric_shape=[7, 7], num_agents=1
    )
    network = LSTMPolicy(environment).network().eval()
    network.load_state_dict(weights())
    found = {}
    with torch.no_grad():
        for name, observations in cases().items():
            logits, values = network.forward_eval(observations)
            found[name] = {"logits": logits.tolist(), "values": values.tolist()}
        state, listed = {"lstm_h": None, "lstm_c": None}, []
        for observations in steps():
            logits, values = network.forward_eval(observations, state)
            listed.append({"logits": logits.tolist(), "values": values.tolist()})
        found["steps"] = listed
        found["h"], found["c"] = ([row[:8] for row in state[key][:, 0].tolist()] for key in ("lstm_h", "lstm_c"))
    return found


if __name__ == "__main__":
    print(json.dumps(_recorded(), indent=1))
