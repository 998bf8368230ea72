"""Bundles as Metta's tools write them, made here: a folder or a zip of a spec and weights."""

import json
import shutil
import zipfile
from pathlib import Path

import torch

from containers.builders import by_safetensors, filled
from metta_hub.names import run_and_epoch
from support import DATA

PT = DATA / "run" / "model_000140.pt"
#: mettagrid's policy of the run, with the facts of its environment that the loader and we read.
LSTM = {
    "class_path": "mettagrid.policy.lstm.LSTMPolicy",
    "data_path": "weights.pt",
    "init_kwargs": {"device": "cpu"},
    "policy_env_interface": {
        "obs_features": [{"id": 0, "name": "agent:group", "normalization": 10.0}],
        "action_names": ["noop", "move_north", "move_south", "move_west", "move_east"],
        "observation_dtype": "uint8",
        "observation_shape": [48, 3],
        "egocentric_shape": [7, 7],
        "num_agents": 4,
        "a_field_of_tomorrow": {"kept": [1, 2.5, None]},
    },
    "setup_script": None,
}
ARCHITECTURE = "metta.agent.policies.fast.FastConfig(actor_hidden_dim=512, components=[], name='fast')"
#: What Metta's own trainer has written since January 2026.
HEAD = {
    "class_path": "metta.agent.policy.CheckpointPolicy",
    "data_path": "weights.safetensors",
    "init_kwargs": {"architecture_spec": ARCHITECTURE, "device": "cpu"},
    "setup_script": None,
}


def spec_text(spec):
    """As pydantic writes it: one line."""
    return json.dumps(spec, separators=(",", ":"))


def folder(path, spec=LSTM, weights=PT, **others):
    """A bundle's folder; `others` are more files by name, `__` for a slash."""
    path.mkdir(parents=True)
    (path / "policy_spec.json").write_text(spec_text(spec))
    if weights is not None:
        shutil.copy(weights, path / Path(spec["data_path"]).name)
    for name, content in others.items():
        file = path / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def head(path, weights=None):
    """A bundle of Metta's own trainer: bare safetensors, names and bytes in the order of the official writer."""
    plain = path.with_name("plain.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    by_safetensors(weights or {"b.weight": filled((3, 4)), "a.bias": filled((5,), "int64", 1)}, plain, metadata=None)
    found = folder(path, HEAD, plain)
    plain.unlink()
    return found


def zipped(source, target, *, method=zipfile.ZIP_DEFLATED):
    """A zip with the files of a folder at its root, as shutil and Python's zipfile make one."""
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source))
    return target


def mpt(path, *, weights="weights.safetensors", content=None):
    """What Metta wrote from October 2025 to January 2026."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if content is None:
            plain = path.with_name("plain.safetensors")
            content = by_safetensors({"w": filled((3, 4))}, plain, metadata=None).read_bytes()
            plain.unlink()
        archive.writestr(weights, content)
        archive.writestr("modelarchitecture.txt", ARCHITECTURE)
    return path


def loaded(path):
    """The weights of a bundle's folder, as torch or safetensors read them: what the policy's class would do.

    The rules are those of mettagrid's `prepare_policy_spec` and of its policies' `load_policy_data`.
    """
    spec = json.loads((path / "policy_spec.json").read_text())
    file = (path / spec["data_path"]).resolve()
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, weights_only=True, map_location="cpu")


def as_metta_of_january_2026_reads(path):
    """Run and epoch by the rule of Metta's commit a8d1ecee, which takes the stem of folders, too."""
    return run_and_epoch(Path(path).stem)
