"""Files made to deceive: each is refused with a sentence of its own, and nothing of it runs."""

import bz2
import hashlib
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download

import metta_hub
from metta_hub import errors
from support import DATA


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "model_0001.pt"
    torch.save({"weight": torch.arange(64.0)}, path)
    return path


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def second_pickle(path, marker):
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model_0001/data.pkl", pickle.dumps(Evil(marker)))


def trailing_bytes(path, marker):
    path.write_bytes(path.read_bytes() + b"#!/bin/sh\n")


def foreign_global(path, marker):
    torch.save({"weight": Evil(marker)}, path)


def wrong_checksum(path, marker):
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model_0001/data/0")
    at = info.header_offset
    content[at + 30 + sum(struct.unpack("<HH", content[at + 26 : at + 30])) + 10] ^= 0xFF
    path.write_bytes(content)


def overlapping_member(path, marker):
    """Two entries of the directory point at one member."""
    content = path.read_bytes()
    name = b"model_0001/data/0"
    directory = content.index(b"PK\x01\x02")
    entry = content.index(name, directory) - 46
    other = content.index(b"model_0001/version", directory) - 46
    offset = content[entry + 42 : entry + 46]
    path.write_bytes(content[: other + 42] + offset + content[other + 46 :])


def terabyte_claim(path, marker):
    """The directory says that a storage has 1 TB."""
    content = path.read_bytes()
    entry = content.index(b"model_0001/data/0", content.index(b"PK\x01\x02")) - 46
    size = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content[: entry + 20] + size + size + content[entry + 28 :])


def terabyte_tensor(path, marker):
    """The pickle says that a tensor has 2^38 elements."""
    content = path.read_bytes()
    old, new = b"K@\x85q", b"\x8a\x05\x00\x00\x00\x00\x40\x85q"
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    data = members["model_0001/data.pkl"]
    assert old in data
    members["model_0001/data.pkl"] = data.replace(old, new, 1)
    del content
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)


ATTACKS = {
    second_pickle: "data.pkl",
    trailing_bytes: "bytes",
    foreign_global: "pathlib",
    wrong_checksum: "checksum",
    overlapping_member: "",
    terabyte_claim: "",
    terabyte_tensor: "",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_is_refused_with_its_own_sentence(attack, plain, repo_id, api, tmp_path):
    marker = tmp_path / "it-ran"
    attack(plain, marker)
    with pytest.raises(errors.FormatError) as caught:
        metta_hub.push(plain, repo_id)
    assert ATTACKS[attack] in str(caught.value)
    assert not api.repo_exists(repo_id)
    assert not marker.exists()


def test_no_two_attacks_share_a_sentence(tmp_path, repo_id):
    sentences = set()
    for attack in ATTACKS:
        path = tmp_path / "model_0001.pt"
        torch.save({"weight": torch.arange(64.0)}, path)
        attack(path, tmp_path / "it-ran")
        with pytest.raises(errors.FormatError) as caught:
            metta_hub.push(path, repo_id)
        sentences.add(caught.value.reason)
    assert len(sentences) == len(ATTACKS)


def test_of_a_record_the_migrated_pair_is_published(repo_id, tmp_path):
    record = DATA / "records" / "model_0005.pt"
    pushed = metta_hub.push(record, repo_id)
    assert "what is published is the pair that migration makes of it" in pushed.warnings[0]
    pulled = metta_hub.pull(repo_id, tmp_path)
    assert metta_hub.inspect(pulled.pt).pickle.plain
    found = metta_hub.inspect(record)
    assert not found.pickle.plain
    assert any(name.startswith("metta.agent") for name in found.pickle.globals)


def test_a_hostile_pt_on_the_hub_is_not_pulled(repo_id, upload, tmp_path):
    """Whoever writes the index writes the hashes too: the file itself is judged."""
    metta_hub.push(DATA / "run" / "model_000140.pt", repo_id)
    marker, evil = tmp_path / "it-ran", tmp_path / "model_000140.pt"
    torch.save({"weight": Evil(marker)}, evil)
    index = json.loads(Path(hf_hub_download(repo_id, "checkpoints/index.json")).read_text())
    record = {"size": evil.stat().st_size, "sha256": hashlib.sha256(evil.read_bytes()).hexdigest()}
    index["checkpoints"][0]["files"]["model_000140.pt"] = record
    upload(repo_id, "model_000140.pt", evil.read_bytes())
    upload(repo_id, "checkpoints/index.json", json.dumps(index).encode())
    with pytest.raises(errors.NotPlainError):
        metta_hub.pull(repo_id, tmp_path / "pulled")
    assert not marker.exists()
    assert not list((tmp_path / "pulled").glob("*")) if (tmp_path / "pulled").exists() else True


def test_an_index_that_names_other_files_is_refused(repo_id, upload, tmp_path):
    metta_hub.push(DATA / "run" / "model_000140.pt", repo_id)
    text = Path(hf_hub_download(repo_id, "checkpoints/index.json")).read_text()
    evil = text.replace("checkpoints/model_000140.json", "../../../home/x/.bashrc")
    upload(repo_id, "checkpoints/index.json", evil.encode())
    with pytest.raises(errors.MettaHubError):
        metta_hub.pull(repo_id, tmp_path / "pulled")


# --- recipes are strangers' data, too -----------------------------------------------------------------------------


def raw_recipe(segments, literals, size, sha256):
    """A recipe as POLICY-REPO.md describes it, of whatever segments."""
    body = json.dumps(segments).encode() + b"\n" + literals
    return struct.pack("<8sQQ32s", b"METTAHR\x01", size, len(body), bytes.fromhex(sha256)) + bz2.compress(body)


def republish_with_recipe(repo_id, upload, name, recipe, pt_sha256, pt_size):
    """Put a forged recipe beside a published mirror, with every hash renewed."""
    document = json.loads(Path(hf_hub_download(repo_id, f"checkpoints/{name}.json")).read_text())
    document["metta_hub"]["weights"] = {"file": f"{name}.pt", "size": pt_size, "sha256": pt_sha256}
    content = json.dumps(document).encode()
    index = json.loads(Path(hf_hub_download(repo_id, "checkpoints/index.json")).read_text())
    (entry,) = [entry for entry in index["checkpoints"] if entry["name"] == name]
    entry["files"].pop(f"{name}.pt", None)
    for path, new in ((f"checkpoints/{name}.recipe", recipe), (f"checkpoints/{name}.json", content)):
        entry["files"][path] = {"size": len(new), "sha256": hashlib.sha256(new).hexdigest()}
        upload(repo_id, path, new)
    upload(repo_id, "checkpoints/index.json", json.dumps(index).encode())


@pytest.fixture
def published(repo_id, tmp_path):
    """A checkpoint of one tensor `w` of 80,000 bytes, published without its `.pt`."""
    torch.save({"w": torch.arange(20000.0)}, tmp_path / "victim_0001.pt")
    metta_hub.push(tmp_path / "victim_0001.pt", repo_id, pt=False)
    return repo_id


def test_a_recipe_that_gives_back_a_hostile_pt_is_not_pulled(published, upload, tmp_path):
    marker, path = tmp_path / "it-ran", tmp_path / "evil.pt"
    torch.save({"w": torch.arange(20000.0), "x": Evil(marker)}, path)
    evil, values = path.read_bytes(), struct.pack("<20000f", *range(20000))
    at = evil.index(values)
    rest = evil[:at] + evil[at + len(values) :]
    sha256 = hashlib.sha256(evil).hexdigest()
    segments = [at, ["w", 0, len(values)], len(rest) - at]
    recipe = raw_recipe(segments, rest, len(evil), sha256)
    republish_with_recipe(published, upload, "victim_0001", recipe, sha256, len(evil))
    with pytest.raises(errors.NotPlainError):
        metta_hub.pull(published, tmp_path / "pulled")
    assert not marker.exists()
    assert list((tmp_path / "pulled").iterdir()) == []
    assert not metta_hub.verify(published).ok


def test_a_recipe_that_would_fill_the_disk_is_refused(published, upload, tmp_path):
    head = (tmp_path / "victim_0001.pt").read_bytes()
    segments = [len(head), *[["w", 0, 80_000]] * 10_000]
    size = len(head) + 800_000_000
    recipe = raw_recipe(segments, head, size, "0" * 64)
    assert len(recipe) < 100_000
    republish_with_recipe(published, upload, "victim_0001", recipe, "0" * 64, size)
    with pytest.raises(errors.FormatError) as caught:
        metta_hub.pull(published, tmp_path / "pulled")
    assert "recipe" in str(caught.value)
    assert not list((tmp_path / "pulled").glob("*.pt"))
