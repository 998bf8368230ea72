"""Publish a pair, pull it back, bit for bit; whatever becomes of the repo meanwhile."""

import json
from pathlib import Path

import pytest

import metta_hub
from support import DATA, SHARED, pairs, values_of

PAIRS = pairs()
OTHER = DATA / "pairs" / "tiny_small" / "model_0012.pt"


def name_of(path):
    return "-".join(path.relative_to(SHARED if path.is_relative_to(SHARED) else DATA).with_suffix("").parts)


def without(values, pointers):
    """A copy of JSON values with what stands at some pointers left out."""
    copy = json.loads(json.dumps(values))
    for pointer in pointers:
        *way, last = pointer.split("/")[1:]
        node = copy
        for part in way:
            node = node[int(part)] if isinstance(node, list) else node.get(part, {})
        if isinstance(node, dict):
            node.pop(last, None)
    return copy


def assert_same_metadata(original, pulled):
    """Equal as values, but for uri, what was repaired, scrubbed or added: and those are listed."""
    block = pulled["metta_hub"]
    changed = ["/uri", "/metta_hub"]
    changed += [item["pointer"] for key in ("repairs", "redactions") for item in block.get(key, [])]
    changed += [f"/{key}" for key in block.get("unknown", [])]
    added = block.get("added", [])
    assert without(original, added) == original
    changed += added
    assert without(pulled, changed) == without(original, changed)


def test_there_are_pairs_to_test():
    # 3 of the run and 7 others here; 11 of the run and 21 others beside the project.
    assert len(PAIRS) == (42 if SHARED.is_dir() else 10)


@pytest.mark.parametrize("source", PAIRS, ids=name_of)
def test_a_pair_comes_back_bit_for_bit(source, repo_id, tmp_path):
    pushed = metta_hub.push(source, repo_id)
    pulled = metta_hub.pull(repo_id, tmp_path / "pulled")
    assert pulled.identical
    assert pulled.commit == pushed.commit
    assert pulled.pt.read_bytes() == source.read_bytes()
    assert_same_metadata(values_of(source.with_suffix(".json")), values_of(pulled.json))
    assert values_of(pulled.json)["uri"] == f"file://{pulled.pt}"
    assert metta_hub.verify(repo_id).ok
    assert metta_hub.verify(pulled.pt).ok
    assert metta_hub.verify(source, repo_id).checks[0].ok


@pytest.mark.parametrize("source", PAIRS, ids=name_of)
def test_it_still_does_when_another_became_the_root(source, repo_id, tmp_path, api):
    name = metta_hub.push(source, repo_id).checkpoint
    other = tmp_path / "other.pt"
    other.write_bytes(OTHER.read_bytes())
    assert metta_hub.push(other, repo_id).root == "other"
    files = api.list_repo_files(repo_id)
    assert f"{name}.pt" not in files
    assert f"checkpoints/{name}.recipe" in files
    pulled = metta_hub.pull(f"{repo_id}:{name}", tmp_path / "pulled")
    assert pulled.identical
    assert pulled.pt.read_bytes() == source.read_bytes()
    assert metta_hub.verify(repo_id).ok


@pytest.mark.parametrize("source", PAIRS, ids=name_of)
def test_without_the_pt_every_tensor_is_equal(source, repo_id, tmp_path, api):
    metta_hub.push(source, repo_id, pt=False)
    assert not [path for path in api.list_repo_files(repo_id) if path.endswith((".pt", ".recipe"))]
    pulled = metta_hub.pull(repo_id, tmp_path / "pulled")
    assert not pulled.identical
    assert_same_tensors(source, pulled.pt)
    assert metta_hub.verify(source, pulled.pt).ok


def assert_same_tensors(one, other):
    """Equal in names, dtype, shape, bits and tying, as torch sees them."""
    import torch

    a, b = (torch.load(path, weights_only=True, map_location="cpu") for path in (one, other))
    assert set(a) == set(b)
    for name, tensor in a.items():
        twin = b[name]
        assert (tensor.dtype, tensor.shape) == (twin.dtype, twin.shape), name
        assert bits(tensor).equal(bits(twin)), name
    assert tied(a) == tied(b)


def bits(tensor):
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0)


def tied(state):
    groups = {}
    for name, tensor in state.items():
        if tensor.numel():
            place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
            groups.setdefault(place, set()).add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def test_a_pulled_pair_pushed_again_changes_nothing(repo_id, tmp_path):
    source = DATA / "pairs" / "fast_small" / "model_0003.pt"
    first = metta_hub.push(source, repo_id)
    pulled = metta_hub.pull(repo_id, tmp_path)
    again = metta_hub.push(pulled.pt, repo_id)
    assert not again.changed
    assert again.commit == first.commit


def test_tied_weights_share_storage_again(repo_id, tmp_path):
    import torch

    weight = torch.arange(6.0).reshape(2, 3)
    state = {"encoder.weight": weight, "decoder.weight": weight, "bias": torch.zeros(2)}
    torch.save(state, tmp_path / "tied_0001.pt")
    metta_hub.push(tmp_path / "tied_0001.pt", repo_id, pt=False)
    pulled = metta_hub.pull(repo_id, tmp_path / "pulled")
    assert_same_tensors(tmp_path / "tied_0001.pt", pulled.pt)
    loaded = torch.load(pulled.pt, weights_only=True)
    assert loaded["encoder.weight"].data_ptr() == loaded["decoder.weight"].data_ptr()
    assert [set(group) for group in metta_hub.verify(repo_id).tied] == [{"encoder.weight", "decoder.weight"}]


def test_a_strided_state_dict_keeps_its_pt_when_it_leaves_the_root(repo_id, tmp_path, run, api):
    import torch

    torch.save({"w": torch.arange(20000.0).reshape(100, 200).t()}, tmp_path / "odd_0001.pt")
    metta_hub.push(tmp_path / "odd_0001.pt", repo_id)
    metta_hub.push(run / "model_000140.pt", repo_id)
    assert "checkpoints/odd_0001.pt" in api.list_repo_files(repo_id)
    pulled = metta_hub.pull(f"{repo_id}:odd_0001", tmp_path / "pulled")
    assert pulled.identical
    assert pulled.pt.read_bytes() == (tmp_path / "odd_0001.pt").read_bytes()
    assert metta_hub.verify(repo_id).ok


def test_a_lone_safetensors_file(repo_id, tmp_path):
    source = DATA / "run" / "model_000140.pt"
    metta_hub.push(source, repo_id)
    from huggingface_hub import hf_hub_download

    mirror = tmp_path / "policy_0007.safetensors"
    mirror.write_bytes(Path(hf_hub_download(repo_id, "model.safetensors")).read_bytes())
    other = f"{repo_id}-st"
    assert metta_hub.push(mirror, other).checkpoint == "policy_0007"
    pulled = metta_hub.pull(other, tmp_path / "pulled")
    assert_same_tensors(source, pulled.pt)
    assert values_of(pulled.json)["epoch"] == 7
    assert values_of(pulled.json)["metta_hub"]["unknown"] == ["agent_step", "generation", "train_time"]
