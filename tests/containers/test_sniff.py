"""What a file is, by its first bytes."""

import pickle
import zipfile

import pytest
import torch

from containers.builders import filled
from metta_hub import containers


def torch_zip(path):
    torch.save({"x": filled((2,))}, path)


def torch_legacy(path):
    torch.save({"x": filled((2,))}, path, _use_new_zipfile_serialization=False)


def a_zip(path):
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("policy_spec.json", "{}")


def a_safetensors(path):
    path.write_bytes((2).to_bytes(8, "little") + b"{}")


def a_pickle(path):
    path.write_bytes(pickle.dumps({"x": 1}))


def a_text(path):
    path.write_text("hello")


def nothing(path):
    path.touch()


def false_header(path):
    path.write_bytes((1000).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (torch_zip, "torch zip"),
        (torch_legacy, "torch legacy"),
        (a_zip, "zip"),
        (a_safetensors, "safetensors"),
        (a_pickle, "pickle"),
        (a_text, "unknown"),
        (nothing, "unknown"),
        (false_header, "unknown"),
    ],
)
def test_sniff(tmp_path, write, expected):
    write(tmp_path / "file")
    assert containers.sniff(tmp_path / "file") == expected


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        containers.sniff(tmp_path / "missing")
