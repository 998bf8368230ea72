"""read(write(x)) == x for both containers, whatever the state dict; the same weights in any order, the same bytes."""

import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from containers.builders import by_safetensors, raw
from metta_hub.checkpoint import Weights
from metta_hub.containers import copying, recipe, safetensors, torch_file, torch_zip
from properties.oracles import described
from properties.strategies import often, repacked, state_dicts, torch_files


def load(path):
    """By torch, as files of our own may be: what has another pickle protocol it loads in no other way."""
    return torch.load(path, weights_only=False, map_location="cpu")


def assert_is(weights, loaded):
    """A table says what torch has: names in order, dtypes, shapes, strides, values, and who shares a storage."""
    assert [info.name for info in weights.tensors] == list(loaded)
    storages = {}
    for info in weights.tensors:
        tensor = loaded[info.name]
        assert [info.name, info.dtype, list(info.shape)] == described(info.name, tensor)[:3]
        assert bytes(copying.read_tensor(weights, info)) == raw(tensor)
        if info.dtype != "F4":
            assert info.stride == tensor.stride()
        if tensor.numel():
            place = tensor.untyped_storage().data_ptr()
            assert storages.setdefault(info.storage, place) == place
            assert info.offset == tensor.storage_offset() * tensor.element_size()
    assert len(set(storages.values())) == len(storages)


def relabelled(weights, order):
    """The same tensors in another order, over storages of other names."""
    names = {key: f"storage {index}" for index, key in enumerate(reversed(list(weights.storages)))}
    tensors = [tensor._replace(storage=names[tensor.storage]) for tensor in weights.tensors]
    order.shuffle(tensors)
    return Weights(tuple(tensors), {names[key]: storage for key, storage in weights.storages.items()})


@given(st.data())
@often(60)
def test_what_torch_saves_is_read_as_torch_reads_it(folder, data):
    _, path = data.draw(torch_files(folder))
    assert_is(torch_file.read(path).weights, load(path))


@given(st.data())
@often(40)
def test_a_zip_that_is_written_is_read_as_it_was(folder, data):
    _, path = data.draw(torch_files(folder))
    weights = torch_file.read(path).weights
    written = torch_zip.write(weights, folder / "out.pt", archive_name="any")
    loaded, again = load(folder / "out.pt"), torch_zip.read(folder / "out.pt")
    assert_is(again.weights, loaded)
    assert [described(*item) for item in loaded.items()] == [described(*item) for item in load(path).items()]
    assert [info._replace(storage="") for info in again.weights.tensors] == [
        info._replace(storage="") for info in weights.tensors
    ]
    assert again.weights.tied == weights.tied
    torch_zip.check_sums(folder / "out.pt")
    assert torch_zip.write(again.weights, folder / "twice.pt", archive_name="any") == written


@given(st.data())
@often(40)
def test_a_safetensors_file_is_read_as_it_was_written_and_is_that_of_its_own_writer(folder, data):
    state, path = data.draw(repacked(folder))
    weights = torch_file.read(path).weights
    written = safetensors.write(weights, folder / "ours.safetensors")
    theirs = by_safetensors(state, folder / "theirs.safetensors")
    assert (folder / "ours.safetensors").read_bytes() == theirs.read_bytes()
    mirror = safetensors.read(theirs)
    assert all(result.equal for result in copying.compare(weights, mirror))
    assert sorted(described(*item) for item in state.items()) == sorted(
        [info.name, info.dtype, list(info.shape), copying.digest_bytes(copying.read_tensor(mirror, info)).sha256]
        for info in mirror.tensors
    )
    assert safetensors.write(mirror, folder / "again.safetensors") == written


@given(st.data(), st.randoms(use_true_random=False))
@often(30)
def test_the_same_weights_in_any_order_give_the_same_bytes(folder, data, order):
    """Of a safetensors file, and of a `.pt` made from one; a `.pt` made from a table keeps the table's order."""
    _, path = data.draw(torch_files(folder))
    weights = torch_file.read(path).weights
    shuffled = relabelled(weights, order)
    mirrors = [folder / "one.safetensors", folder / "other.safetensors"]
    written = [safetensors.write(table, mirror) for table, mirror in zip((weights, shuffled), mirrors, strict=True)]
    assert written[0] == written[1]
    rebuilt = [torch_zip.write(safetensors.read(m), folder / "rebuilt.pt", archive_name="m") for m in mirrors]
    assert rebuilt[0] == rebuilt[1]
    torch_zip.write(shuffled, folder / "out.pt", archive_name="m")
    assert list(load(folder / "out.pt")) == [tensor.name for tensor in shuffled.tensors]
    same_order = relabelled(weights, random.Random(1))
    same_order = Weights(tuple(same_order.by_name[tensor.name] for tensor in weights.tensors), same_order.storages)
    assert torch_zip.write(weights, folder / "out.pt", archive_name="m") == torch_zip.write(
        same_order, folder / "out.pt", archive_name="m"
    )


@given(st.data())
@often(60)
def test_recipe_and_mirror_give_the_very_file_back(folder, data):
    """Of every file that torch saves; one whose storages are compressed has none, and is kept as it is."""
    _, path = data.draw(torch_files(folder))
    found, original = torch_file.read(path), copying.digest(path)
    small = recipe.make(found, original)
    if any(storage.deflated is not None for storage in found.weights.storages.values()):
        assert small == b""
        return
    safetensors.write(found.weights, folder / "mirror.safetensors")
    assert recipe.restore(small, safetensors.read(folder / "mirror.safetensors"), folder / "back.pt") == original
    assert (folder / "back.pt").read_bytes() == path.read_bytes()
    looked = recipe.look(small, "m.recipe")
    assert (looked.size, looked.sha256, looked.container) == (original.size, original.sha256, found.container)
    assert looked.pickle == found.pickle
    assert torch_file.judge_pickle(looked.pickle, looked.container) == found.findings
    assert recipe.make(torch_file.read(path), original) == small


@given(state_dicts())
@often(20)
def test_what_is_counted_is_what_torch_counts(folder, state):
    torch.save(state, folder / "m.pt")
    weights = torch_zip.read(folder / "m.pt").weights
    unpacked = {
        name: tensor.numel() * (2 if tensor.dtype == torch.float4_e2m1fn_x2 else 1) for name, tensor in state.items()
    }
    repeated = {name for group in weights.tied for name in group[1:]}
    assert weights.parameters == sum(count for name, count in unpacked.items() if name not in repeated)
