"""Checkpoints in every container in the field, published and pulled."""

import json
import pickle
import tarfile
from collections import OrderedDict

import pytest
import torch

import metta_hub
from containers.builders import (
    DTYPES,
    Entry,
    Stored,
    Tensor,
    build_zip,
    by_safetensors,
    filled,
    legacy_stream,
    packed,
    raw,
    torch_file,
)
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


def test_rebuilding_gives_a_file_for_the_cpu(tmp_path, repo_id, cli):
    tensors = {name: Tensor(Stored(4, key=str(key), device="cuda:0")) for key, name in enumerate("ab")}
    path = torch_file(tmp_path / "gpu.pt", tensors, {"0": bytes(range(16)), "1": bytes(16)})
    pushed = metta_hub.push(path, repo_id)
    assert any("cuda:0" in warning and "--rebuild" in warning for warning in pushed.warnings)
    as_it_was = metta_hub.pull(repo_id, tmp_path / "as it was")
    assert as_it_was.identical
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(as_it_was.pt, weights_only=True)
    done = json.loads(cli("pull", repo_id, tmp_path / "rebuilt", "--rebuild", "--json").stdout)
    assert done["identical"] is False
    rebuilt = torch.load(done["pt"], weights_only=True, mmap=True)
    assert {name: raw(tensor) for name, tensor in rebuilt.items()} == values(path)
    assert metta_hub.verify(done["pt"]).ok
    assert metta_hub.verify(done["pt"], repo_id).checks[0].ok


def test_rebuilding_a_legacy_file_keeps_its_ties(tmp_path, repo_id, state, other):
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    metta_hub.push(tmp_path / "old.pt", repo_id)
    for _ in range(2):
        pulled = metta_hub.pull(f"{repo_id}:old", tmp_path / "pulled", rebuild=True)
        assert metta_hub.inspect(pulled.pt).container == "torch zip"
        assert [set(group) for group in metta_hub.inspect(pulled.pt).tied] == [{"weight", "tied"}]
        assert values(pulled.pt) == values(tmp_path / "old.pt")
        assert not pulled.identical
        metta_hub.push(other, repo_id)  # the second time it has a recipe only


def test_marked_views_are_published_with_their_values(tmp_path, repo_id):
    base = torch.arange(1.0, 49.0).view(torch.complex64).reshape(6, 4)
    torch.save({"base": base, "conj": base.conj(), "neg": torch._neg_view(filled((3,)))}, tmp_path / "m.pt")
    metta_hub.push(tmp_path / "m.pt", repo_id)
    assert metta_hub.verify(repo_id).ok
    assert metta_hub.pull(repo_id, tmp_path / "one").identical
    rebuilt = metta_hub.pull(repo_id, tmp_path / "two", rebuild=True)
    loaded = torch.load(tmp_path / "m.pt", weights_only=True)
    resolved = {name: raw(tensor.resolve_conj().resolve_neg()) for name, tensor in loaded.items()}
    assert values(rebuilt.pt) == resolved


@pytest.mark.parametrize("old", [False, True])
def test_every_dtype_is_published_and_comes_back(tmp_path, repo_id, other, old):
    """Also float8 and the unsigned integers, over storages without a dtype; from the file, the recipe, the mirror."""
    path = tmp_path / "dtypes.pt"
    state = {dtype: filled((40, 20), dtype) for dtype in DTYPES}
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    metta_hub.push(path, repo_id)
    assert {tensor.name: tensor.bytes for tensor in metta_hub.inspect(repo_id).tensors} == {
        name: tensor.numel() * tensor.element_size() for name, tensor in state.items()
    }
    assert metta_hub.pull(repo_id, tmp_path / "file").pt.read_bytes() == path.read_bytes()
    metta_hub.push(other, repo_id)
    assert metta_hub.pull(f"{repo_id}:dtypes", tmp_path / "recipe").pt.read_bytes() == path.read_bytes()
    rebuilt = metta_hub.pull(f"{repo_id}:dtypes", tmp_path / "mirror", rebuild=True)
    assert values(rebuilt.pt) == {name: raw(tensor) for name, tensor in state.items()}
    assert metta_hub.verify(repo_id).ok


def test_a_file_without_checksums_is_published_and_comes_back(tmp_path, repo_id, state, other):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    metta_hub.push(tmp_path / "model.pt", repo_id)
    metta_hub.push(other, repo_id)
    assert metta_hub.verify(repo_id).ok
    assert (
        metta_hub.pull(f"{repo_id}:model", tmp_path / "pulled").pt.read_bytes() == (tmp_path / "model.pt").read_bytes()
    )


def test_a_legacy_file_of_a_gpu_is_published_with_a_warning(tmp_path, repo_id):
    storage = Stored(4, device="cuda:1")
    storage.pid = (*storage.pid, None)
    path = written(tmp_path / "old.pt", legacy_stream({"x": Tensor(storage)}, {"0": bytes(range(16))}))
    pushed = metta_hub.push(path, repo_id)
    assert any("cuda:1" in warning and "--rebuild" in warning for warning in pushed.warnings)
    rebuilt = metta_hub.pull(repo_id, tmp_path / "rebuilt", rebuild=True)
    assert {name: raw(tensor) for name, tensor in torch.load(rebuilt.pt, weights_only=True).items()} == values(path)


def tarred(path, names):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return path


def scripted(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    return path


def saved(value):
    """Writes it with torch, as it is saved today."""
    return lambda path: (torch.save(value(), path), path)[1]


def cut(make):
    """Leaves out the end."""

    def write(path):
        made = make(path)
        made.write_bytes(made.read_bytes()[:-100])
        return made

    return write


def legacy(path):
    torch.save({"x": filled((30,))}, path, _use_new_zipfile_serialization=False)
    return path


def big_endian(path):
    return torch_file(path, {"x": Tensor(Stored(4))}, {"0": bytes(16)}, byteorder=b"big")


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda path: tarred(path, ["sys_info", "pickle", "tensors", "storages"]),
            "a tar archive, PyTorch's oldest format",
        ),
        (lambda path: tarred(path, ["README"]), "a tar archive, and not a checkpoint"),
        (scripted, "it is TorchScript, a program that torch.jit.save wrote"),
        (cut(saved(lambda: {"x": filled((30,))})), "the file is cut short"),
        (cut(legacy), "the file is cut short: it has 20 of 120 bytes of the storage"),
        (
            cut(lambda path: by_safetensors({"x": filled((30,))}, path)),
            "the file is incomplete: it has 20 of 120 bytes",
        ),
        (big_endian, "it was written on a big-endian machine"),
        (
            saved(lambda: {"x": torch.zeros(2, dtype=torch.complex128)}),
            "it holds complex128 tensors, which safetensors",
        ),
        (saved(lambda: {"x": torch.eye(2).to_sparse()}), "it holds sparse tensors, which safetensors"),
        (
            saved(lambda: {"x": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
            "it holds quantized tensors",
        ),
        (lambda path: written(path, pickle.dumps({"a": 1})), "a pickle that torch.save did not write"),
        (lambda path: written(path, b""), "the file is empty"),
        (lambda path: written(path, b"weights"), "not a checkpoint that metta-hub reads"),
        (
            lambda path: written(path, build_zip([Entry("data", b"1")])),
            "it holds no data.pkl: not a file that torch.save",
        ),
        (
            lambda path: written(path, build_zip([Entry("a/x.py"), Entry("a/.data/extern_modules")])),
            "a torch.package in which",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_its_own_sentence(tmp_path, cli, make, says):
    path = make(tmp_path / "model.pt")
    assert says in cli("push", path, "org/refused", code=1).stderr
