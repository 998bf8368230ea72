"""Weights into policies: all or nothing, explained, and nothing of a repo is run."""

import json
import subprocess
import sys

import pytest
import torch
from huggingface_hub import scan_cache_dir

import metta_hub
from metta_hub import errors, policies
from metta_hub.hub import verified
from policies import graphs
from policies.graphs import NAMES, agent, observations
from support import DATA

RECORD = DATA / "records" / "model_0005.pt"


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    monkeypatch.setattr(policies, "_BUILDERS", {})


def save(folder, state, name="fast", **changed):
    """A pair of a small agent, as metta_hub writes one."""
    info = graphs.model_info(graphs.architecture(name), **changed)
    path = folder / "model_0001.pt"
    torch.save(state, path)
    values = {
        "epoch": 1,
        "agent_step": 2,
        "generation": 0,
        "train_time": 1.0,
        "action_names": NAMES,
        "model_info": info,
    }
    path.with_suffix(".json").write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("name", sorted(graphs.PRESET))
def test_a_pair_gives_its_authors_numbers(name, tmp_path):
    author = agent(name, seed=5)
    policy = metta_hub.from_pretrained(save(tmp_path, author.state_dict(), name))
    seen = observations(policy, 3)
    assert policy.evaluate(seen).logits.equal(author.evaluate(seen).logits)
    assert list(policy.state_dict()) == list(author.state_dict())
    assert not policy.training
    assert policy.action_names == NAMES
    assert not [key for key, item in [*policy.named_parameters(), *policy.named_buffers()] if item.is_meta]


def test_through_the_hub_in_another_process(repo_id, tmp_path):
    """The numbers are the same there, and of the record's pickle nothing was run on the way."""
    metta_hub.push(RECORD, repo_id)
    seen = observations(metta_hub.from_pretrained(RECORD), 3)
    seen[..., 1] %= 20
    torch.save(seen, tmp_path / "seen")
    code = (
        "import sys, torch, metta_hub\n"
        "torch.set_num_threads(1)\n"
        "policy = metta_hub.from_pretrained(sys.argv[1])\n"
        "torch.save(policy.evaluate(torch.load(sys.argv[2])).logits, sys.argv[3])\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'metta', 'agent', 'omegaconf', 'mettagrid'})\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, repo_id, tmp_path / "seen", tmp_path / "logits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    logits = metta_hub.from_pretrained(RECORD).evaluate(seen).logits
    assert torch.load(tmp_path / "logits").equal(logits)


def test_renamed_missing_and_misshapen_weights_come_in_one_error(tmp_path):
    state = dict(agent("fast").state_dict())
    state["components.fc_1._net.0.weight"] = state.pop("components.fc1._net.0.weight")
    del state["components._value_._net.bias"]
    state["components.actor_1._net.0.bias"] = torch.zeros(3)
    with pytest.raises(errors.WeightsMismatchError) as refused:
        metta_hub.from_pretrained(save(tmp_path, state))
    assert refused.value.missing == ("components._value_._net.bias", "components.fc1._net.0.weight")
    assert refused.value.unexpected == ("components.fc_1._net.0.weight",)
    assert refused.value.misshapen == ("components.actor_1._net.0.bias: [3] for [7]",)
    sentence = str(refused.value)
    assert "components.fc1._net.0.weight, perhaps called components.fc_1._net.0.weight" in sentence
    assert "components._value_._net.bias" in sentence
    assert "components.actor_1._net.0.bias" in sentence


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_names_of_a_wrapped_policy_load_and_it_is_said(prefix, tmp_path):
    author = agent("fast")
    path = save(tmp_path, {prefix + key: item for key, item in author.state_dict().items()})
    with pytest.warns(UserWarning, match=f"'{prefix}' was taken off"):
        policy = metta_hub.from_pretrained(path)
    seen = observations(policy, 2)
    assert policy.evaluate(seen).logits.equal(author.evaluate(seen).logits)


def test_a_prefix_on_some_names_is_named(tmp_path):
    state = {("module." if "critic" in key else "") + key: item for key, item in agent("fast").state_dict().items()}
    with pytest.raises(errors.WeightsMismatchError) as refused:
        metta_hub.from_pretrained(save(tmp_path, state))
    assert "'module.'" in refused.value.hint


def test_a_registered_policy_with_such_names_of_its_own_keeps_them(tmp_path):
    module = torch.nn.Sequential()
    module.add_module("module", torch.nn.Linear(2, 2))
    torch.save(module.state_dict(), tmp_path / "own_0001.pt")
    values = {"model_info": {"type": "Own"}, "epoch": 1, "agent_step": 0, "generation": 0, "train_time": 0}
    (tmp_path / "own_0001.json").write_text(json.dumps(values))

    def builder(_):
        made = torch.nn.Sequential()
        made.add_module("module", torch.nn.Linear(2, 2))
        return made

    metta_hub.register("Own", builder)
    assert metta_hub.from_pretrained(tmp_path / "own_0001.pt").module.weight.equal(module.module.weight)


def test_not_strictly_what_fits_is_loaded_and_the_rest_is_named(tmp_path):
    author = agent("fast")
    state = dict(author.state_dict())
    del state["components._value_._net.bias"]
    state["more"] = torch.zeros(1)
    path = save(tmp_path, state)
    with pytest.warns(UserWarning, match=r"1 missing \(components\._value_\._net\.bias\); 1 unexpected \(more\)"):
        policy = metta_hub.from_pretrained(path, strict=False)
    seen = observations(policy, 2)
    assert policy.evaluate(seen).logits.equal(author.evaluate(seen).logits)
    assert policy.evaluate(seen).value.isfinite().all()
    state["components._value_._net.weight"] = torch.zeros(1, 1)
    with pytest.raises(errors.WeightsMismatchError, match="another shape"):
        metta_hub.from_pretrained(save(tmp_path, state), strict=False)


def test_a_buffer_that_no_weight_fills_is_named(tmp_path):
    class Lookup(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(2))
            self.register_buffer("table", torch.arange(3), persistent=False)

    def builder(_):
        with torch.device("meta"):
            return Lookup()

    metta_hub.register("Lookup", builder)
    torch.save({"weight": torch.ones(2)}, tmp_path / "a_0001.pt")
    values = {"model_info": {"type": "Lookup"}, "epoch": 1, "agent_step": 0, "generation": 0, "train_time": 0}
    (tmp_path / "a_0001.json").write_text(json.dumps(values))
    with pytest.raises(errors.WeightsMismatchError, match="left empty: table"):
        metta_hub.from_pretrained(tmp_path / "a_0001.pt")


def test_parameters_that_a_policy_ties_stay_tied(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
            self.decoder.weight = self.encoder.weight

    metta_hub.register("Tied", lambda _: Tied())
    weight = torch.randn(2, 2)
    torch.save({"encoder.weight": weight, "decoder.weight": weight.clone()}, tmp_path / "a_0001.pt")
    values = {"model_info": {"type": "Tied"}, "epoch": 1, "agent_step": 0, "generation": 0, "train_time": 0}
    (tmp_path / "a_0001.json").write_text(json.dumps(values))
    policy = metta_hub.from_pretrained(tmp_path / "a_0001.pt")
    assert policy.encoder.weight is policy.decoder.weight
    assert policy.encoder.weight.equal(weight)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "torch.bfloat16"])
def test_a_dtype_is_a_dtype_of_torchs_or_its_name(dtype):
    policy = metta_hub.from_pretrained(RECORD, dtype=dtype)
    assert policy.dtype == torch.bfloat16
    assert policy.components["_action_embeds_"].active_indices.dtype == torch.int64
    assert policy.predict(policy.example_observation())[0].shape == (2,)


@pytest.mark.parametrize("dtype", ["int8", torch.int8, "os.system", ""])
def test_another_dtype_is_refused(dtype):
    with pytest.raises(errors.UsageError, match="cannot be of dtype"):
        metta_hub.from_pretrained(RECORD, dtype=dtype)


def test_local_files_only_asks_nobody(hub, repo_id, tmp_path):
    metta_hub.push(RECORD, repo_id)
    hub.requests.clear()
    with pytest.raises(errors.OfflineError, match="local_files_only forbids") as refused:
        metta_hub.from_pretrained(repo_id, cache_dir=tmp_path / "cache", local_files_only=True)
    assert "without local_files_only" in refused.value.hint
    assert not hub.requests
    expected = metta_hub.from_pretrained(repo_id, cache_dir=tmp_path / "cache")
    hub.requests.clear()
    again = metta_hub.from_pretrained(repo_id, cache_dir=str(tmp_path / "cache"), local_files_only=True)
    assert not hub.requests
    assert again.state_dict().keys() == expected.state_dict().keys()
    for blob in (tmp_path / "cache").rglob("*.safetensors"):
        blob.unlink()
    with pytest.raises(errors.OfflineError, match="local_files_only forbids"):
        metta_hub.from_pretrained(repo_id, cache_dir=tmp_path / "cache", local_files_only=True)


HOSTILE = ["os.system", "builtins.eval", "metta.agent.metta_agent.MettaAgent", "../../MettaAgent", "MettaAgent\x00"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_type_is_looked_up_and_never_imported(kind, tmp_path):
    path = save(tmp_path, agent("fast").state_dict(), type=kind)
    with pytest.raises(errors.UnknownArchitectureError):
        metta_hub.from_pretrained(path)


def test_nothing_beside_the_weights_is_imported(tmp_path, monkeypatch):
    """A module name, a class path, a setup script, and files of Python beside the pair."""
    told = {
        "module_name": "trap",
        "class_path": "trap.Policy",
        "setup_script": "trap.py",
        "auto_map": {"x": "trap.Policy"},
    }
    path = save(tmp_path, agent("fast").state_dict(), **told)
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert metta_hub.from_pretrained(path).action_names == NAMES
    assert "trap" not in sys.modules


def test_a_graph_of_other_sizes_than_the_weights_takes_no_memory(tmp_path):
    """Within what a graph may be, but not what the file holds: 440 million parameters."""
    info = graphs.model_info(graphs.architecture("fast"))
    for wide in ("fc1", "encoded_obs"):
        info["architecture"]["components"][wide]["nn_params"]["out_features"] = 20_000
    path = save(tmp_path, agent("fast").state_dict(), architecture=info["architecture"])
    code = (
        "import sys, metta_hub\n"
        "try: metta_hub.from_pretrained(sys.argv[1])\n"
        "except metta_hub.MettaHubError as error: print(type(error).__name__)\n"
    )
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))\n{code}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", limited, path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "WeightsMismatchError\n"


def test_what_contradicts_the_weights_is_refused(tmp_path):
    state = agent("fast").state_dict()
    with pytest.raises(errors.ArchitectureError, match="7 actions"):
        metta_hub.from_pretrained(save(tmp_path, state, action_max_params=[0, 1]))


def test_writing_to_a_policys_weights_changes_nothing_in_the_cache(repo_id, tmp_path):
    """Weights of cached files are mapped, not copied."""
    metta_hub.push(RECORD, repo_id)
    policy = metta_hub.from_pretrained(repo_id, cache_dir=tmp_path)
    before = {name: item.clone() for name, item in policy.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1)
    again = metta_hub.from_pretrained(repo_id, cache_dir=tmp_path)
    assert all(item.equal(before[name]) for name, item in again.state_dict().items())
    assert metta_hub.verify(repo_id).ok


def test_a_cached_file_is_hashed_again_when_somebody_wrote_to_it(repo_id, tmp_path):
    metta_hub.push(RECORD, repo_id)
    policy = metta_hub.from_pretrained(repo_id, cache_dir=tmp_path)
    expected = {name: item.clone() for name, item in policy.state_dict().items()}
    [mirror] = tmp_path.rglob("model.safetensors")
    sha256 = mirror.resolve().name
    assert verified.is_noted(mirror, sha256)
    assert not verified.is_noted(mirror, "0" * 64)
    content = bytearray(mirror.read_bytes())
    content[-1] ^= 1
    mirror.resolve().write_bytes(content)
    assert not verified.is_noted(mirror, sha256)
    again = metta_hub.from_pretrained(repo_id, cache_dir=tmp_path).state_dict()
    assert all(item.equal(expected[name]) for name, item in again.items())
    assert verified.is_noted(mirror, sha256)
    [note] = (tmp_path / f"models--{repo_id.replace('/', '--')}" / "verified").glob(sha256)
    note.write_bytes(b"\xff\x00")
    assert not verified.is_noted(mirror, sha256)
    scan_cache_dir(tmp_path)  # the client's own survey minds no notes
    assert not scan_cache_dir(tmp_path).warnings


def test_building_a_policy_imports_no_compiler():
    """Drawing initial values on the meta device would: it takes longer than all the rest."""
    record = DATA / "records" / "model_0005.pt"
    code = f"import sys, metta_hub; metta_hub.from_pretrained({str(record)!r}); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
