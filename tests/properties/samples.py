"""Small valid files of every kind, to be damaged."""

import io
import json
import zipfile
from collections import OrderedDict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from containers.builders import filled, packed
from metta_hub.containers import copying, recipe, safetensors, torch_file


def state():
    """A few tensors of every sort: ties, views, a scalar, nothing, old and new dtypes."""
    base = filled((4, 3))
    found = OrderedDict(weight=base, tied=base.detach(), turned=base.t(), part=base[1:3, ::2])
    found.update(scalar=filled((), "int64"), none=torch.zeros(0, 2), half=filled((5,), "bfloat16"))
    found.update(flags=filled((3,), "bool"), parameter=torch.nn.Parameter(filled((2,), seed=5)))
    found._metadata = OrderedDict({"": {"version": 1}})
    return found


def _new(found):
    found["new"] = filled((4,), "uint16")
    return found


def saved(make):
    """The bytes of a file that is made at a path."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.pt"
        make(path)
        return path.read_bytes()


def _without_checksums(path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(_new(state()), path)
    finally:
        torch.serialization.set_crc32_options(True)


def _deflated(path):
    torch.save(_new(state()), path.with_name("stored.pt"))
    packed(path.with_name("stored.pt"), path)


def _safetensors(path):
    torch.save(_new(state()), path.with_name("m.pt"))
    safetensors.write(torch_file.read(path.with_name("m.pt")).weights, path.with_name("m.safetensors"))
    path.with_name("m.safetensors").rename(path)


_MAKERS = {
    "zip": lambda path: torch.save(_new(state()), path),
    "zip without checksums": _without_checksums,
    "deflated": _deflated,
    "legacy": lambda path: torch.save(state(), path, _use_new_zipfile_serialization=False),
    "safetensors": _safetensors,
}
KINDS = tuple(_MAKERS)


@cache
def sample(kind):
    """The bytes of a valid file."""
    return saved(_MAKERS[kind])


@cache
def members():
    """Name and content of every member of a `.pt`."""
    return members_of(sample("zip"))


def members_of(content):
    """The same of any zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist()}


@cache
def recipe_and_mirror(kind):
    """A recipe, the mirror that it needs, and the sha256 of the file that they give back."""
    with TemporaryDirectory() as folder:
        path, mirror = Path(folder) / "m.pt", Path(folder) / "m.safetensors"
        path.write_bytes(sample(kind))
        found = torch_file.read(path)
        safetensors.write(found.weights, mirror)
        original = copying.digest(path)
        return recipe.make(found, original), mirror.read_bytes(), original.sha256


def document():
    """The JSON of a pair, with what Metta's writer leaves in it."""
    values = {
        "epoch": 140,
        "agent_step": "1572864",
        "generation": 1.0,
        "train_time": 12.5,
        "run_name": "naïve",
        "action_names": ["move", "turn"],
        "evals": {"navigation": 0.5, "deep": {"memory": "tensor(0.2500)"}},
        "avg_reward": float("nan"),
        "model_info": {"type": "Net", "hidden_size": 128, "agent_attributes": {"action_space": "MultiDiscrete([5 4])"}},
        "mine": {"a": [1, 2.5, None, True, "x"], "b": {}},
        "metta_hub": {"format_version": 1, "original_name": "x", "tied": [["a", "b"]]},
    }
    return json.dumps(values, indent=2).encode()


def index():
    """An index of three checkpoints."""
    from metta_hub import index as index_file
    from metta_hub.index import Entry, FileRecord, Index

    entries = []
    for epoch, name in enumerate(("model_0001", "model_0002", "other")):
        weights = "model.safetensors" if epoch == 1 else f"checkpoints/{name}.safetensors"
        listed = {path: FileRecord(100 + epoch, f"{epoch}" * 64) for path in (f"checkpoints/{name}.json", weights)}
        known = None if name == "other" else epoch
        scores = (0.5, -1.5, 0.25) if epoch else (None, None, None)
        entries.append(
            Entry(name, "run", known, epoch * 1000, *scores, {"a": {"b": 1.0}}, {}, 12, listed, "2026-01-02T03:04:05Z")
        )
    return index_file.dumps(Index("model_0002", tuple(entries)))


def config():
    """The config.json of a repo."""
    from metta_hub import metadata
    from metta_hub.formats import repo
    from metta_hub.index import FileRecord

    known = metadata.parse(document(), "m.json")
    listed = {"README.md": FileRecord(5, "a" * 64), "checkpoints/index.json": FileRecord(7, "b" * 64)}
    return repo.config_document(known, name="model_0140", block={"repairs": []}, listed=listed)
