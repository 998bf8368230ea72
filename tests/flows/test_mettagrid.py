"""Metta's own loader takes what is exported, and its LSTM policy computes what ours does: mettagrid 0.26.22.

It is in the environment that `scripts/loader` makes. Without that environment these tests are skipped and say so;
`test_bundles` has the loader's rules without the loader, `policies/test_mettagrid_lstm` numbers that it gave once.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

import bundles
import lstm_reference
import metta_hub
from bundles import LSTM, PT
from containers.builders import raw
from support import DATA, SHARED

LOADER = os.environ.get("LOADER_PYTHON")
NAME = "hearts.lstm:v140"
GENUINE = SHARED / "bundles" / NAME

pytestmark = pytest.mark.skipif(not LOADER, reason="scripts/loader runs these, in an environment with mettagrid")

_ASK = """
import hashlib, json, sys
from pathlib import Path
import torch
from mettagrid.policy import prepare_policy_spec as prepare
from mettagrid.policy.loader import initialize_or_load_policy
from mettagrid.policy.policy_env_interface import PolicyEnvInterface
from mettagrid.util.uri_resolvers.schemes import parse_uri, policy_spec_from_uri

uri, environment, cache, load = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "load"
prepare.DEFAULT_POLICY_CACHE_DIR = cache
spec = policy_spec_from_uri(uri)
found = {"class_path": spec.class_path, "data_path": spec.data_path, "init_kwargs": spec.init_kwargs}
found["info"] = parse_uri(uri, allow_none=False).checkpoint_info
if load:
    policy = initialize_or_load_policy(PolicyEnvInterface(**environment), spec)
    state = policy.network().state_dict()
    found["tensors"] = {
        name: hashlib.sha256(bytes(tensor.contiguous().view(torch.uint8).flatten().tolist())).hexdigest()
        for name, tensor in state.items()
    }
print("FOUND", json.dumps(found))
"""


@pytest.fixture
def ask(tmp_path):
    """What the loader makes of a bundle, in a process of its own; its cache of zips is this test's."""

    def call(uri, spec=LSTM, *, load=True):
        environment = json.dumps(spec.get("policy_env_interface"))
        arguments = [str(uri), environment, str(tmp_path / "cache"), "load" if load else "resolve"]
        done = subprocess.run(
            [LOADER, "-c", _ASK, *arguments], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))[6:])

    return call


def hashes_of(pt):
    import hashlib

    state = torch.load(pt, weights_only=True)
    return {name: hashlib.sha256(raw(tensor)).hexdigest() for name, tensor in state.items()}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_published_bundle_is_resolved_and_loaded_with_its_own_tensors(kind, ask, tmp_path, repo_id):
    """push → pull → export → the loader, which gets the tensors of the file that was pushed."""
    source = bundles.folder(tmp_path / "made" / NAME)
    metta_hub.push(source if kind == "folder" else bundles.zipped(source, tmp_path / f"{NAME}.zip"), repo_id)
    pulled = metta_hub.pull(repo_id, tmp_path / "pulled")
    for name, origin in (("of the repo", repo_id), ("of the pair", pulled.pt)):
        place = tmp_path / name
        exported = metta_hub.export(origin, place / NAME if kind == "folder" else place)
        found = ask(exported.path)
        assert found["info"] == ["hearts.lstm", 140]
        assert found["class_path"] == LSTM["class_path"]
        assert found["init_kwargs"] == {"device": "cpu"}
        assert found["tensors"] == hashes_of(PT)


@pytest.mark.skipif(not GENUINE.is_dir(), reason="the shared folder is not beside the project")
def test_the_trainers_own_bundle_is_too(ask, tmp_path, repo_id):
    metta_hub.push(GENUINE, repo_id)
    exported = metta_hub.export(repo_id, tmp_path / "out")
    spec = json.loads((GENUINE / "policy_spec.json").read_text())
    assert ask(exported.path, spec)["tensors"] == ask(GENUINE, spec)["tensors"] == hashes_of(GENUINE / "weights.pt")


def test_weights_without_an_original_pt_are_loaded_from_one_that_is_made(ask, tmp_path, repo_id):
    metta_hub.push(bundles.folder(tmp_path / NAME), repo_id, pt=False)
    assert ask(metta_hub.export(repo_id, tmp_path / "out").path)["tensors"] == hashes_of(PT)


def test_the_newest_of_several_is_found_among_folders_and_zips(ask, tmp_path):
    for run, epoch in (("plain", 7), ("plain", 139), ("dotted.run", 140)):
        source = bundles.folder(tmp_path / "made" / f"{run}:v{epoch}")
        metta_hub.export(source, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plain:v7", "plain:v139", "dotted.run:v140.zip"}
    assert Path(ask(f"{tmp_path}/out:latest", load=False)["data_path"]).parent.parent == tmp_path / "cache"
    assert ask(f"{tmp_path}/out/plain:v139", load=False)["info"] == ["plain", 139]


def test_a_bundle_of_metta_itself_is_resolved(ask, tmp_path, repo_id):
    """Its class is in metta.agent, which nobody packages: what is compared is the spec, and the file it names."""
    source = bundles.head(tmp_path / "made" / "myrun:v12")
    metta_hub.push(source, repo_id)
    exported = metta_hub.export(repo_id, tmp_path / "out")
    found = ask(exported.path, load=False)
    assert found["info"] == ["myrun", 12]
    assert found["init_kwargs"] == bundles.HEAD["init_kwargs"]
    assert Path(found["data_path"]).read_bytes() == (source / "weights.safetensors").read_bytes()


def test_trap_1_the_loader_keeps_the_old_weights_of_a_zip_and_finds_the_new_ones_elsewhere(ask, tmp_path):
    """Why an export never replaces a zip unasked: this is what the loader does."""
    one = bundles.folder(tmp_path / "a" / NAME)
    other = bundles.folder(tmp_path / "b" / NAME, weights=DATA / "run" / "model_000202.pt")
    place = tmp_path / "out" / f"{NAME}.zip"
    metta_hub.export(one, place)
    first = ask(place)["tensors"]
    metta_hub.export(other, place, force=True)
    assert ask(place)["tensors"] == first
    elsewhere = metta_hub.export(other, tmp_path / "out" / "hearts.lstm:v202.zip")
    assert ask(elsewhere.path)["tensors"] == hashes_of(DATA / "run" / "model_000202.pt") != first


# --- the LSTM policy ---

_COMPUTE = """
import json, sys
import torch
from mettagrid.policy.loader import initialize_or_load_policy
from mettagrid.policy.policy_env_interface import PolicyEnvInterface
from mettagrid.util.uri_resolvers.schemes import policy_spec_from_uri

uri, environment, asked, answered = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
network = initialize_or_load_policy(PolicyEnvInterface(**environment), policy_spec_from_uri(uri)).network().eval()
found = {}
with torch.no_grad():
    for name, observations in torch.load(asked).items():
        state = {"lstm_h": None, "lstm_c": None}
        rows = [network.forward_eval(step, state) for step in observations]
        found[name] = {"logits": torch.stack([row[0] for row in rows]), "values": torch.stack([row[1] for row in rows])}
        found[name] |= state
torch.save(found, answered)
"""


def tokens(*shape):
    """Observations as the environment gives them: some tokens, then padding."""
    chance = torch.Generator().manual_seed(7)
    seen = torch.randint(0, 256, (*shape, 48, 3), generator=chance)
    seen[..., 1] = torch.randint(0, 16, (*shape, 48), generator=chance)
    lengths = torch.randint(0, 49, (*shape, 1), generator=chance)
    seen[torch.arange(48).expand(*shape, 48) >= lengths] = torch.tensor([255, 0, 0])
    return seen.to(torch.uint8)


def test_a_published_policy_gives_mettagrids_own_numbers(tmp_path, repo_id):
    """Epoch 140 of the real run through the Hub, on 2,230 observations: logits, values and states to 1e-5.

    In one batch, one by one, and in steps that carry the state; another epoch's weights give other numbers.
    """
    asked = {"one batch": tokens(1, 1000), "steps": tokens(50, 20), "single": tokens(200, 1)}
    asked["nothing above 1"] = tokens(1, 30) % 2
    torch.save(asked, tmp_path / "asked.pt")
    metta_hub.push(PT, repo_id)
    policy = metta_hub.from_pretrained(repo_id)
    other = metta_hub.from_pretrained(DATA / "run" / "model_000202.pt")
    environment = json.dumps(LSTM["policy_env_interface"])
    source = bundles.folder(tmp_path / NAME)
    command = [LOADER, "-c", _COMPUTE, source, environment, tmp_path / "asked.pt", tmp_path / "answered.pt"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    worst = {}
    for name, expected in torch.load(tmp_path / "answered.pt").items():
        logits, values, state = computed(policy, asked[name])
        worst[name] = (logits - expected["logits"]).abs().max().item()
        assert worst[name] <= 1e-5
        assert (values - expected["values"]).abs().max() <= 1e-5
        for part, theirs in zip(state, (expected["lstm_h"], expected["lstm_c"]), strict=True):
            assert (part - theirs.transpose(0, 1)).abs().max() <= 1e-5
        assert (computed(other, asked[name])[0] - expected["logits"]).abs().max() > 1e-2
    print("largest differences of logits:", worst)


@torch.no_grad()
def computed(policy, observations):
    """Logits and values [T, B, …] of steps [T, B, …], and the last state."""
    logits, values, state = [], [], None
    for step in observations:
        out = policy.evaluate(step, state)
        logits.append(out.logits)
        values.append(out.value)
        state = out.state
    return torch.stack(logits), torch.stack(values), state


def test_the_recorded_numbers_are_mettagrids():
    command = [LOADER, lstm_reference.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((DATA / "mettagrid_lstm.json").read_text())
    assert numbers(json.loads(done.stdout)) == pytest.approx(numbers(recorded), abs=1e-6)


def numbers(value):
    """Every number, in order."""
    if isinstance(value, float):
        return [value]
    items = [item for _, item in sorted(value.items())] if isinstance(value, dict) else value
    return [number for item in items for number in numbers(item)]
