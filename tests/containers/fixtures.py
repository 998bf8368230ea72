"""What becomes of every file in the folder beside the project; run as a module, it prints that as a table.

    PYTHONPATH=tests .venv/bin/python -m containers.fixtures > table.md

A row is what is expected of the files that match it; `outcome` is what happens. `test_fixtures` compares the two.
"""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import safetensors
import torch

from containers import foreign
from containers.builders import raw
from metta_hub import containers, formats
from metta_hub.containers import copying, dtypes
from metta_hub.errors import MettaHubError
from support import SHARED

FILES = sorted(path for path in SHARED.rglob("*") if path.is_file())

UNKNOWN = "not a checkpoint that metta-hub reads"
NO_PICKLE = "it holds no data.pkl: not a file that torch.save wrote"
TRAINER = "it is a trainer's state (it has 'optimizer_state_dict' and no weights), and not a policy"


@dataclass(frozen=True)
class Row:
    """What is expected of the files that match a pattern.

    Attributes:
        pattern: of the path in the folder.
        kind: what the file is.
        says: part of the sentence that refuses it; None when it is read.
    """

    pattern: str
    kind: str
    says: str | None = None


#: The first that matches counts.
ROWS = (
    # Metta's own: records and what stands around them.
    Row("metta/*/*/old/*.pt", "record"),
    Row("metta/eras/agent_module_2025_03_20/*.pt", "record of March 2025"),
    Row("metta/eras/compiled_optimized_module/model_0005.pt", "record, compiled"),
    Row("metta/eras/ddp_*/model_0005.pt", "record, DDP"),
    Row("metta/eras/synthetic_checkpoint_attr/*.pt", "record"),
    Row("metta/eras/pickle_policy_record_2025_07_01/*.pt", "record"),
    Row("metta/eras/pair_from_module_migrator/*.pt.old", "record"),
    Row("metta/eras/torch_package_2025_06_23/model_0003.pt", "record, torch.package"),
    Row("metta/fast/two_action_sets_s4/legacy/*.pt", "state dict"),
    Row("metta/*/*/legacy/*.pt", "wrapped state dict"),
    Row("metta/*/*/trainer_state.pt", "trainer's state", TRAINER),
    Row("metta/*/*/state_dict.pt", "state dict"),
    Row("metta/eras/torch_package_2025_06_23/state_dict_for_comparison.pt", "state dict"),
    Row("metta/eras/bundle_head_2026_01/*/weights.safetensors", "a bundle's weights"),
    Row("metta/*/*/pair/*.pt", "pair"),
    Row("metta/*/*/pair/*.json", "pair's metadata"),
    Row("metta/*/*/migrated/*.new.pt", "pair"),
    Row("metta/*/*/migrated/*.new.json", "pair's metadata"),
    Row("metta/eras/*/*.new.pt", "pair"),
    Row("metta/eras/*/*.new.json", "pair's metadata"),
    Row("metta/eras/pair_from_module_migrator/*.pt", "pair"),
    Row("metta/eras/pair_from_module_migrator/*.json", "pair's metadata"),
    Row("metta/*/*/oracle.npz", "recorded outputs, of numpy", NO_PICKLE),
    Row("metta/*/*/env.json", "facts of an environment", UNKNOWN),
    Row("metta/*/*/config.yaml", "an agent's configuration", UNKNOWN),
    Row("metta/eras/*/*/policy_spec.json", "a bundle's spec"),
    Row("metta/globals.json", "notes on the files here", UNKNOWN),
    Row("metta/store_oracle.json", "notes on the files here", UNKNOWN),
    Row("metta/README.md", "notes on the files here", UNKNOWN),
    # One real run, and its policies as bundles.
    Row("run/trainer_state.pt", "trainer's state", TRAINER),
    Row("run/model_*.pt", "pair"),
    Row("run/model_*.json", "pair's metadata"),
    Row("run/metadata.json", "notes on the run", UNKNOWN),
    Row("run/policy_spec.json", "a bundle's spec"),
    Row("run/README.md", "notes on the files here", UNKNOWN),
    Row("bundles/*/weights.pt", "a bundle's weights"),
    Row("bundles/*/policy_spec.json", "a bundle's spec"),
    # Other projects' checkpoints.
    Row("real/DISTS_pytorch-*/weights.pt", "state dict, PyTorch before 1.6"),
    Row("real/lpips-*/*.pth", "state dict, PyTorch before 1.6"),
    Row("real/digit_recognizer_py-*/handwriting_model.pth", "state dict"),
    Row("real/fracast-*/model*.safetensors", "safetensors"),
    Row("real/imitation-*/policy.pth", "state dict"),
    Row("real/imitation-*/policy.optimizer.pth", "optimizer's state", "it is an optimizer's state, and not a policy"),
    Row("real/imitation-*/model.zip", "an archive of stable-baselines3", NO_PICKLE),
    Row("real/rlcard-*/model.pth", "several agents in one file", "is not a tensor as torch saves one, but a dict"),
    Row("real/rlcard-*/average_policy.pkl", "pickle", "a pickle that torch.save did not write; it is not loaded"),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What happened to a file.

    Attributes:
        format: and its container; the container alone when it was refused.
        tensors: how many were read; 0 when it was refused.
        wrong: names of tensors that are not what the oracle has.
        sentence: what a user sees; empty when it was read.
    """

    format: str
    tensors: int = 0
    wrong: tuple[str, ...] = ()
    sentence: str = ""


def row_of(path):
    """What is expected of a file; None when nobody has said."""
    relative = path.relative_to(SHARED)
    parts = len(relative.parts)
    return next((r for r in ROWS if r.pattern.count("/") + 1 == parts and relative.match(r.pattern)), None)


@cache
def outcome(path):
    """Read a file, or be refused."""
    try:
        found = formats.read(path)
    except MettaHubError as error:
        return Outcome(containers.sniff(path), sentence=str(error))
    read = {
        info.name: (dtypes.BY_NAME[info.dtype].torch, info.shape, bytes(copying.read_tensor(found.weights, info)))
        for info in found.weights.tensors
    }
    expected = ORACLES.get(found.origin.format, by_container)(path)
    wrong = tuple(name for name in read.keys() | expected.keys() if read.get(name) != expected.get(name))
    return Outcome(f"{found.origin.format}, {found.origin.container}", len(read), wrong)


def by_container(path):
    return by_safetensors(path) if containers.sniff(path) == "safetensors" else by_torch(path)


def by_spec(path):
    return by_container(path.with_name(json.loads(path.read_text())["data_path"]))


def by_torch(path):
    return listed(
        torch.load(path.with_suffix(".pt") if path.suffix == ".json" else path, weights_only=True, map_location="cpu")
    )


def by_key(path):
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    return listed(next(loaded[key] for key in ("model_state_dict", "state_dict") if key in loaded))


def by_module(path):
    """The agent itself, made by torch from stand-ins; of a package, whose classes cannot be had, the copy beside it."""
    copy = path.with_name("state_dict_for_comparison.pt")
    return by_torch(copy) if copy.exists() else listed(foreign.state_dict_of(path))


def listed(loaded):
    return {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), raw(tensor))
        for name, tensor in loaded.items()
    }


def by_safetensors(path):
    return {
        name: (dtypes.BY_NAME[tensor["dtype"]].torch, tuple(tensor["shape"]), bytes(tensor["data"]))
        for name, tensor in safetensors.deserialize(path.read_bytes())
    }


ORACLES = {"bundle": by_spec, "record": by_module, "wrapped state dict": by_key}


def table():
    """Every file, those of one kind and outcome together, as a markdown table."""
    groups = defaultdict(list)
    for path in FILES:
        row, happened = row_of(path), outcome(path)
        if happened.sentence:
            folder = f"{path.parent}/"
            what = "refused: " + happened.sentence.replace(folder, "").removeprefix(f"{path.name}: ")
        else:
            what = f"{len(happened.wrong)} tensors differ" if happened.wrong else "read: every tensor equal"
        groups[row.kind if row else "?", happened.format, what].append((path, happened.tensors))
    lines = ["| files (tensors) | what | container | outcome |", "|---|---|---|---|"]
    for (kind, format_, what), files in groups.items():
        lines.append(f"| {'<br>'.join(_by_folder(files))} | {kind} | {format_} | {what} |")
    read = sum(len(files) for (_, _, what), files in groups.items() if what.startswith("read"))
    lines += ["", f"{len(FILES)} files: {read} read and equal, {len(FILES) - read} refused."]
    return "\n".join(lines)


def _by_folder(files):
    folders = defaultdict(list)
    for path, count in files:
        folders[path.relative_to(SHARED).parent.as_posix()].append(path.name + (f" ({count})" if count else ""))
    same = defaultdict(list)
    for folder, names in folders.items():
        same[", ".join(names)].append(folder)
    for names, where in same.items():
        yield f"{where[0]}/{names}" if len(where) == 1 else f"{names} in {', '.join(where)}"


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
