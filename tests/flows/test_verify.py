"""verify: says ok on what is whole, and names the file when one byte is not."""

import json
import random
import shutil
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, snapshot_download

import metta_hub
from metta_hub.containers.copying import digest
from support import DATA

PT = DATA / "run" / "model_000140.pt"
#: Places in each file where a byte is flipped.
FLIPS = 6


def failures(verified):
    return [check for check in verified.checks if check.ok is False]


def flip(path, place):
    content = bytearray(Path(path).read_bytes())
    content[place % len(content)] ^= 0x01
    Path(path).write_bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repo of two checkpoints, one without a recipe's mirror at the root, as a local folder."""
    repo_id = "org/verified-folder"
    metta_hub.push(DATA / "pairs" / "fast_small" / "model_0003.pt", repo_id)
    metta_hub.push(DATA / "pairs" / "tiny_small" / "model_0012.pt", repo_id)
    target = tmp_path_factory.mktemp("repo")
    snapshot_download(repo_id, local_dir=target)
    shutil.rmtree(target / ".cache")
    return target


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_whole_repo_folder_is_ok(folder):
    verified = metta_hub.verify(folder)
    assert verified.ok
    assert not failures(verified)
    assert any("mirror" in check.name and check.ok for check in verified.checks)


def test_every_file_of_the_repo_is_flipped_below(folder):
    assert files_of(folder) == [
        ".gitattributes",
        "README.md",
        "checkpoints/index.json",
        "checkpoints/model_0003.json",
        "checkpoints/model_0003.recipe",
        "checkpoints/model_0003.safetensors",
        "checkpoints/model_0012.json",
        "checkpoints/model_0012.recipe",
        "config.json",
        "model.safetensors",
        "model_0012.pt",
    ]


def test_one_flipped_byte_in_any_file_of_a_folder_is_found_and_named(folder, tmp_path):
    chance = random.Random(0)
    for number, file in enumerate(files_of(folder)):
        size = (folder / file).stat().st_size
        for place in [0, size - 1, *(chance.randrange(size) for _ in range(FLIPS))]:
            copy = tmp_path / f"{number}-{place}"
            shutil.copytree(folder, copy, dirs_exist_ok=True)
            flip(copy / file, place)
            verified = metta_hub.verify(copy)
            assert not verified.ok, (file, place)
            assert any(file in check.name or file in check.detail for check in failures(verified)), (file, place)
            shutil.rmtree(copy)


def test_one_flipped_byte_that_was_committed_is_found_and_named(repo_id, api, upload):
    metta_hub.push(DATA / "pairs" / "fast_small" / "model_0003.pt", repo_id)
    metta_hub.push(DATA / "pairs" / "tiny_small" / "model_0012.pt", repo_id)
    for file in api.list_repo_files(repo_id):
        original = Path(hf_hub_download(repo_id, file)).read_bytes()
        flipped = bytearray(original)
        flipped[len(flipped) // 2] ^= 0x01
        if file == "README.md":
            flipped = bytearray(original.replace(b"policy", b"policx", 1))
        upload(repo_id, file, bytes(flipped))
        verified = metta_hub.verify(repo_id)
        assert not verified.ok, file
        assert any(file in check.name or file in check.detail for check in failures(verified)), file
        upload(repo_id, file, original)
    assert metta_hub.verify(repo_id).ok


def test_bytes_that_rot_on_the_hubs_disk_are_found_and_named(repo_id, api, hub, cli):
    metta_hub.push(PT, repo_id)
    for file in ("model.safetensors", "model_000140.pt"):
        sha256 = next(item for item in api.list_repo_tree(repo_id) if item.path == file).lfs.sha256
        (stored,) = [path for path in hub.root.rglob(sha256) if repo_id.split("/")[1] in str(path)]
        stored.chmod(0o644)
        flip(stored, 5000)
        verified = json.loads(cli("verify", repo_id, "--json", code=1).stdout)
        assert verified["ok"] is False
        assert any(file in check["name"] for check in verified["checks"] if check["ok"] is False)
        flip(stored, 5000)
    assert metta_hub.verify(repo_id).ok


def test_a_damaged_copy_in_the_cache_is_not_believed(repo_id):
    metta_hub.push(PT, repo_id)
    cached = Path(hf_hub_download(repo_id, "model.safetensors")).resolve()
    flip(cached, 5000)
    assert metta_hub.verify(repo_id).ok
    assert digest(cached).sha256 == cached.name


@pytest.mark.parametrize("place", [0, 40, 2000, 300_000, -100, -1])
def test_one_flipped_byte_in_a_pulled_pt_is_found_and_named(place, repo_id, tmp_path, cli):
    metta_hub.push(PT, repo_id)
    pulled = metta_hub.pull(repo_id, tmp_path)
    assert cli("verify", pulled.pt).stdout.endswith("ok\n")
    flip(pulled.pt, place)
    said = cli("verify", pulled.pt, code=1).stdout
    assert "model_000140.pt" in said
    assert "NOT OK" in said


def test_two_checkpoints_are_compared_tensor_by_tensor(repo_id, run):
    metta_hub.push(run / "model_000140.pt", repo_id)
    assert metta_hub.verify(run / "model_000140.pt", repo_id).ok
    verified = metta_hub.verify(run / "model_000202.pt", repo_id)
    assert [check.ok for check in verified.checks] == [False, False]
    assert "epoch" in verified.checks[1].detail


def test_a_repo_whose_recipe_lies_is_not_ok(repo_id, upload):
    metta_hub.push(DATA / "pairs" / "fast_small" / "model_0003.pt", repo_id)
    metta_hub.push(DATA / "pairs" / "tiny_small" / "model_0012.pt", repo_id)
    other = Path(hf_hub_download(repo_id, "checkpoints/model_0012.recipe")).read_bytes()
    upload(repo_id, "checkpoints/model_0003.recipe", other)
    assert not metta_hub.verify(repo_id).ok
