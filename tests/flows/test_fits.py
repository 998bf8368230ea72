"""fits: whether a policy can act in an environment, told from metadata alone."""

import json

import pytest

import metta_hub
from metta_hub import errors
from support import DATA

AGENT = DATA / "records" / "model_0005.pt"
RUN = DATA / "run" / "model_000140.pt"
NAMES = ["noop", "move", "rotate", "put_items", "get_items"]
MOVES = ["noop", "move_north", "move_south", "move_west", "move_east"]


@pytest.fixture
def described(tmp_path):
    """Write what an environment is like."""

    def write(**facts):
        path = tmp_path / "environment.json"
        path.write_text(json.dumps(facts))
        return path

    return write


def own_features():
    values = metta_hub.inspect(AGENT).metadata
    divisors = values["model_info"]["agent_attributes"]["feature_normalizations"]
    return {
        name: {"id": number, "normalization": divisors[str(number)]}
        for name, number in values["original_feature_mapping"].items()
    }


def where(found):
    return {one.where: (one.policy, one.environment) for one in found.differences}


def test_its_own_environment_fits(described):
    path = described(action_names=NAMES, action_max_params=[0, 1, 3, 0, 0], obs_shape=[200, 3], features=own_features())
    assert metta_hub.fits(AGENT, environment=path) == metta_hub.fits(AGENT, like=AGENT)
    assert metta_hub.fits(AGENT, environment=path).ok
    assert metta_hub.fits(AGENT, environment=path).notes == ()


def test_actions_are_compared_index_by_index():
    found = metta_hub.fits(RUN, actions="noop,move_south,move_north,move_west")
    assert not found.ok
    assert where(found) == {
        "action 1": ("move_north", "move_south"),
        "action 2": ("move_south", "move_north"),
        "action 4": ("move_east", None),
    }
    assert metta_hub.fits(RUN, actions=", ".join(MOVES)).ok


def test_an_agent_that_knows_its_actions_by_name_takes_them_in_any_order(described):
    path = described(action_names=["rotate", "noop"], action_max_params=[3, 0])
    found = metta_hub.fits(AGENT, environment=path)
    assert found.ok
    assert found.notes == ("The actions are others or in another order, and the policy knows each by its name.",)
    unknown = metta_hub.fits(AGENT, environment=described(action_names=["rotate", "jump"], action_max_params=[3, 0]))
    assert where(unknown)["action 4"] == ("rotate_1", "jump_0")
    further = metta_hub.fits(AGENT, environment=described(action_names=["rotate"], action_max_params=[4]))
    assert not further.ok


def test_observations_and_features_are_compared(described):
    features = own_features()
    del features["hp"]
    features["agent:group"] |= {"normalization": 5.0}
    features["swappable"] |= {"id": 99}
    features["new"] = {"id": 50, "normalization": 1.0}
    found = metta_hub.fits(AGENT, environment=described(obs_shape=[100, 3], features=features))
    assert where(found) == {
        "observation shape": ("[200, 3]", "[100, 3]"),
        "feature hp": ("2", None),
        "normalization of feature agent:group": ("10", "5"),
        "id of feature swappable": ("7", "99"),
    }
    assert found.notes == ("The policy does not know 1 of the features, and ignores them: new.",)


def test_an_agent_that_maps_features_by_name_takes_any_numbers(described, tmp_path):
    path = tmp_path / "model_0001.pt"
    metta_hub.migrate_checkpoint(AGENT, path)
    document = json.loads(path.with_suffix(".json").read_text())
    document["model_info"]["architecture"]["components"]["strip"] = {
        "_target_": "a.lib.obs_tokenizers.ObsTokenPadStrip"
    }
    path.with_suffix(".json").write_text(json.dumps(document))
    features = own_features() | {"swappable": {"id": 99, "normalization": 1.0}}
    found = metta_hub.fits(path, environment=described(features=features))
    assert found.ok
    assert found.notes == ("Some features have other numbers, and the policy maps them by name.",)


def test_the_interface_in_a_bundles_spec_is_an_environment(tmp_path):
    interface = {
        "action_names": MOVES,
        "observation_shape": [48, 3],
        "obs_features": [{"id": 0, "name": "agent:group", "normalization": 10.0}],
    }
    path = tmp_path / "policy_spec.json"
    path.write_text(json.dumps({"class_path": "a.B", "policy_env_interface": interface}))
    found = metta_hub.fits(RUN, environment=path)
    assert found.ok
    assert found.notes == ("Nobody says the policy's features, so that was not compared.",)


def test_published_ones_are_compared_without_a_byte_of_their_weights(hub, repo_id, cli):
    metta_hub.push(RUN, repo_id)
    hub.requests.clear()
    assert cli("fits", repo_id, "--like", RUN).stdout == "It fits\n"
    shown = cli("fits", repo_id, "--like", AGENT, code=1).stdout
    assert "action 1" in shown
    assert "DOES NOT FIT" in shown
    value = json.loads(cli("fits", repo_id, "--actions", "noop", "--json", code=1).stdout)
    assert (value["ok"], len(value["differences"])) == (False, 4)
    assert not [request for request in hub.requests if ".safetensors" in request.path or ".pt" in request.path]


@pytest.mark.parametrize("options", [{}, {"actions": "a", "like": RUN}, {"actions": "a,,b"}])
def test_exactly_one_environment_is_meant(options):
    with pytest.raises(errors.UsageError):
        metta_hub.fits(RUN, **options)


@pytest.mark.parametrize("most", ["x", [1], [0, "1"]])
def test_parameters_that_are_none_are_refused(described, most):
    with pytest.raises(errors.UsageError, match="action_max_params"):
        metta_hub.fits(RUN, environment=described(action_names=["zig", "zag"], action_max_params=most))


def test_a_file_that_describes_no_environment_is_refused(described):
    with pytest.raises(errors.UsageError, match="says nothing of an environment"):
        metta_hub.fits(RUN, environment=described(weather="fine"))
