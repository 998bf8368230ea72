"""Trees of files for surveys: of every kind one, made here, and as many links of them as are asked for."""

import contextlib
import io
import json
import os
import shutil
import socket
import zipfile

import torch

from support import DATA

SPEC = {"class_path": "mettagrid.policy.lstm.LSTMPolicy", "data_path": "weights.pt", "init_kwargs": {}}


def saved(value, *, legacy=False):
    """The bytes that torch.save writes."""
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def weights(elements=64):
    return {"net.weight": torch.ones(elements), "net.bias": torch.zeros(3)}


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def safetensors(elements=64):
    header = json.dumps({"w": {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4 * elements)


def one_of_each(folder):
    """A tree with a checkpoint of every format, with files that are damaged, and with much that is none."""
    for name in ("model_000140.pt", "model_000140.json"):
        put(folder / "run" / name, (DATA / "run" / name).read_bytes())
    plain, optimizer = saved(weights()), {"state": {number: [number] for number in range(900)}}
    files = {
        "old/model_0005.pt": (DATA / "records" / "model_0005.pt").read_bytes(),
        "old/model_0006.pt": saved({"model_state_dict": weights(), "epoch": 6}),
        "old/late.pt": saved({"epoch": 7, "optimizer": optimizer, "state_dict": weights()}),
        "old/legacy.pth": saved(weights(), legacy=True),
        "old/state_0008.pt": plain,
        "old/trainer_state.pt": saved({"optimizer_state_dict": {"state": {}}, "epoch": 9}),
        "bundles/nav:v12/policy_spec.json": json.dumps(SPEC),
        "bundles/nav:v12/weights.pt": plain,
        "bundles/nav:v13.zip": zipped(**{"policy_spec.json": json.dumps(SPEC), "weights.pt": plain}),
        "bundles/setup:v1/policy_spec.json": json.dumps(SPEC | {"setup_script": "setup.py"}),
        "bundles/setup:v1/weights.pt": plain,
        "bundles/nav:v2.mpt": zipped(**{"weights.safetensors": safetensors(), "modelarchitecture.txt": "A()"}),
        "large.safetensors.index.json": json.dumps({"weight_map": {}}),
        "large-00001-of-00002.safetensors": safetensors(),
        "single.safetensors": safetensors(),
        "broken/cut.pt": plain[:-100],
        "broken/cut.safetensors": safetensors()[:-1],
        "broken/empty.pt": b"",
        "broken/noise.pt": b"nothing that anybody knows" * 9,
        "broken/pointer.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "broken/best.pt": plain,
        "broken/layers.pt": saved({"layers": {"a": weights()}}),
        "broken/table.pkl": b"\x80\x04]\x94.",
        "other/notes.txt": b"notes",
        "other/config.json": b"{}",
        "other/data.zip": zipped(readme="nothing"),
        "other/LICENSE": b"free",
    }
    for name, content in files.items():
        put(folder / name, content.encode() if isinstance(content, str) else content)
    os.link(folder / "single.safetensors", folder / "again.safetensors")
    return folder


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def oddities(folder):
    """What is in a tree and is no file, or has a name that no terminal should see."""
    folder.mkdir(exist_ok=True)
    (folder / "loop").symlink_to(folder.parent)
    (folder / "latest.pt").symlink_to(DATA / "run" / "model_000140.pt")
    (folder / "gone.pt").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.pt")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(folder):  # an address has 108 bytes at most
        listening.bind("socket.pt")
    put(folder / "\033[31mred\n.pt", saved(weights()))
    put(folder / os.fsdecode(b"caf\xe9_0003.pt"), saved(weights()))
    return folder


def linked(folder, number, *sources):
    """A tree of so many files, all but a few of them hard links of the files of some others, in as many folders."""
    for place, source in enumerate(sources):
        shutil.copytree(source, folder / "first" / str(place))
    names = [path for path in (folder / "first").rglob("*") if path.is_file()]
    for made in range(number - len(names)):
        turn, which = divmod(made, len(names))
        copy = folder / f"copy-{turn}" / names[which].relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(names[which], copy)
    return folder
