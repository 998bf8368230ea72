"""Files over 4 GiB, where zip needs its wider records: holes on disk, so they take neither space nor time."""

import os
import struct
from collections import OrderedDict

import pytest
import torch

from containers.builders import Stored, Tensor, pickled
from metta_hub.containers import copying, safetensors, torch_legacy, torch_zip, zip_records

BIG = (4 << 30) + (1 << 20)
SMALL = struct.pack("<4f", 1, 2, 3, 4)


def state(*view):
    """Two storages; a legacy stream says of each whether it is part of another."""
    big, small = Stored(BIG // 4, "0"), Stored(4, "1")
    big.pid, small.pid = (*big.pid, *view), (*small.pid, *view)
    return OrderedDict(
        big=Tensor(big, 0, (BIG // 4,), (1,)), end=Tensor(big, BIG // 4 - 2, (2,), (1,)), small=Tensor(small)
    )


def write_zip(path):
    """As torch writes one that is told to record no checksums."""
    members, contents = [], {"data.pkl": pickled(state()), "data/0": BIG, "data/1": SMALL, "version": b"3\n"}
    with path.open("wb") as file:
        for name, content in contents.items():
            size = content if isinstance(content, int) else len(content)
            member, header = zip_records.place(f"m/{name}", size, 0, after=members)
            file.write(header)
            if isinstance(content, int):
                file.seek(size - 8, os.SEEK_CUR)
            file.write(struct.pack("<2f", 5, 6) if isinstance(content, int) else content)
            file.write(zip_records.descriptor(member))
            members.append(member)
        file.write(zip_records.directory(members, zip_records.end(members)))
    return torch_zip.read(path).weights


def write_legacy(path):
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, machine, state(None), ["0", "1"]):
            file.write(pickled(part))
        file.write(struct.pack("<q", BIG // 4))
        file.seek(BIG - 8, os.SEEK_CUR)
        file.write(struct.pack("<2f", 5, 6) + struct.pack("<q", 4) + SMALL)
    return torch_legacy.read(path).weights


def write_safetensors(path):
    header = (
        f'{{"big":{{"dtype":"F32","shape":[{BIG // 4}],"data_offsets":[0,{BIG}]}},'
        f'"end":{{"dtype":"F32","shape":[2],"data_offsets":[{BIG},{BIG + 8}]}},'
        f'"small":{{"dtype":"F32","shape":[2,2],"data_offsets":[{BIG + 8},{BIG + 24}]}}}}'
    ).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.seek(BIG, os.SEEK_CUR)
        file.write(struct.pack("<2f", 5, 6) + SMALL)
    return safetensors.read(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy, write_safetensors])
def test_tensors_beyond_four_gibibytes(tmp_path, write):
    path = tmp_path / "large"
    weights = write(path)
    assert path.stat().st_size > 1 << 32
    assert weights.by_name["big"].nbytes == BIG
    for name, expected in {"end": struct.pack("<2f", 5, 6), "small": SMALL}.items():
        assert copying.read_tensor(weights, weights.by_name[name]) == expected
    path.unlink()


def test_torch_agrees_on_the_zip(tmp_path):
    write_zip(tmp_path / "large.pt")
    loaded = torch.load(tmp_path / "large.pt", weights_only=True, mmap=True)
    assert (loaded["end"].tolist(), loaded["small"].tolist()) == ([5, 6], [[1, 2], [3, 4]])
    assert loaded["big"].shape == (BIG // 4,)
    (tmp_path / "large.pt").unlink()
