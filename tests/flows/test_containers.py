"""Checkpoints in every container in the field, published and pulled."""

import json
from collections import OrderedDict

import pytest
import torch

import metta_hub
from containers.builders import by_safetensors, filled, packed, raw
from metta_hub.containers import copying


def values(path):
    """Every tensor's bytes, by torch."""
    return {name: raw(tensor) for name, tensor in torch.load(path, weights_only=True, map_location="cpu").items()}


@pytest.fixture
def state():
    generous = filled((60, 40), seed=1)  # large enough for a recipe to be worthwhile
    return OrderedDict(weight=generous, tied=generous, turned=filled((5, 8)).t(), half=filled((7,), "bfloat16"))


@pytest.fixture
def other(tmp_path):
    torch.save({"x": filled((3,))}, tmp_path / "other.pt")
    return tmp_path / "other.pt"


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt", "pkl"])
def test_a_legacy_file_comes_back_bit_for_bit(tmp_path, repo_id, state, ending):
    path = tmp_path / f"old_0007.{ending}"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert metta_hub.inspect(path).container == "torch legacy"
    pushed = metta_hub.push(path, repo_id)
    assert {file.path for file in pushed.files} >= {"old_0007.pt", "checkpoints/old_0007.recipe", "model.safetensors"}
    pulled = metta_hub.pull(repo_id, tmp_path / "pulled")
    assert pulled.identical
    assert pulled.pt.read_bytes() == path.read_bytes()
    assert json.loads(pulled.json.read_text())["epoch"] == 7
    assert metta_hub.inspect(pulled.pt).format == "pair"
    assert metta_hub.verify(repo_id).ok
    assert metta_hub.verify(pulled.pt).ok
    assert metta_hub.verify(path, repo_id).checks[0].ok
    assert metta_hub.push(pulled.pt, repo_id).changed is False


def test_a_legacy_file_comes_back_from_its_recipe(tmp_path, repo_id, state, other, api):
    path = tmp_path / "old.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    metta_hub.push(path, repo_id)
    metta_hub.push(other, repo_id)
    assert "old.pt" not in api.list_repo_files(repo_id)
    found = metta_hub.inspect(f"{repo_id}:old")
    assert found.pickle == metta_hub.inspect(path).pickle
    assert found.pickle.plain
    pulled = metta_hub.pull(f"{repo_id}:old", tmp_path / "pulled")
    assert pulled.pt.read_bytes() == path.read_bytes()
    assert copying.digest(path).sha256 == pulled.sha256.pt
    assert metta_hub.verify(repo_id).ok


def test_a_deflated_file_stays_as_it_is(tmp_path, repo_id, state, other, api):
    torch.save(state, tmp_path / "stored.pt")
    path = packed(tmp_path / "stored.pt", tmp_path / "model.pt")
    metta_hub.push(path, repo_id)
    assert metta_hub.verify(repo_id).ok
    metta_hub.push(other, repo_id)
    assert {"checkpoints/model.pt", "checkpoints/model.safetensors"} <= set(api.list_repo_files(repo_id))
    pulled = metta_hub.pull(f"{repo_id}:model", tmp_path / "pulled")
    assert pulled.identical
    assert pulled.pt.read_bytes() == path.read_bytes()
    assert metta_hub.verify(repo_id).ok
    assert metta_hub.verify(path, tmp_path / "stored.pt").checks[0].ok
    assert values(path) == values(pulled.pt)


@pytest.mark.parametrize("named", ["", "model.safetensors.index.json"])
def test_sharded_safetensors_become_one_checkpoint(tmp_path, repo_id, named):
    state = {"a": filled((30, 4)), "b": filled((5,), "bfloat16")}
    folder = tmp_path / "sharded"
    folder.mkdir()
    for name, tensor in state.items():
        by_safetensors({name: tensor}, folder / f"model-{name}.safetensors")
    weight_map = {name: f"model-{name}.safetensors" for name in state}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert metta_hub.verify(folder / named).ok
    metta_hub.push(folder / named, repo_id)
    assert metta_hub.verify(repo_id).ok
    assert metta_hub.verify(folder / named, repo_id).checks[0].ok
    pulled = metta_hub.pull(repo_id, tmp_path / "pulled")
    assert not pulled.identical
    assert values(pulled.pt) == {name: raw(tensor) for name, tensor in state.items()}
