"""Deflated members: read as torch reads them, in bounded memory, and checked to the last byte."""

import struct
import zipfile
import zlib
from collections import OrderedDict

import pytest
import torch

from containers.builders import (
    Stored,
    Tensor,
    assert_same,
    filled,
    packed,
    pickled,
    raw,
    saved,
    torch_entries,
)
from metta_hub.containers import copying, inflating, recipe, safetensors, torch_zip
from metta_hub.errors import ChecksumError, FormatError

FOUR = struct.pack("<4f", 1, 2, 3, 4)


def deflated(state, folder, **options):
    return packed(saved(state, folder / "stored.pt"), folder / "model.pt", **options)


def everything():
    base = filled((300, 40))
    state = OrderedDict(base=base, tied=base.detach(), turned=base.t(), row=base[3], steps=base[::7, ::3])
    state.update(none=torch.zeros(0), scalar=filled(()), half=filled((5, 5), "bfloat16"), zeros=torch.zeros(3000))
    state["long"] = torch.zeros(900_000)
    return state


def deflate(data):
    squeezer = zlib.compressobj(wbits=-15)
    return squeezer.compress(data) + squeezer.flush()


def one_member(path, content, size, crc=None, method=8):
    """A file with one float tensor of four elements, over a deflated storage that says what the caller likes."""
    entries = torch_entries(pickled({"x": Tensor(Stored(4))}), {})
    info = zipfile.ZipInfo("archive/data/0")
    with zipfile.ZipFile(path, "w") as new:
        for entry in entries:
            new.writestr(entry.name, entry.data)
        start = new.fp.tell()
        name = info.filename.encode()
        crc = zlib.crc32(FOUR) if crc is None else crc
        new.fp.write(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, method, 0, 33, crc, len(content), size, len(name), 0))
        new.fp.write(name + content)
        info.header_offset, info.compress_type, info.CRC = start, method, crc
        info.compress_size, info.file_size = len(content), size
        new.filelist.append(info)
        new.NameToInfo[info.filename] = info
        new.start_dir, new._didModify = new.fp.tell(), True
    return path


@pytest.mark.parametrize("level", [1, 6, 9])
def test_a_file_that_was_packed_again(tmp_path, level):
    state = everything()
    path = deflated(state, tmp_path, level=level)
    found = torch_zip.read(path)
    assert found.findings.plain
    assert_same(state, found.weights, copying.read_tensor)
    loaded = torch.load(path, weights_only=True)
    assert all(raw(loaded[name]) == raw(state[name]) for name in state)
    assert found.weights.tied == (("base", "tied"),)
    torch_zip.check_sums(path)


def test_mirrors_and_files_written_from_one(tmp_path):
    state = everything()
    found = torch_zip.read(deflated(state, tmp_path))
    plain = torch_zip.read(tmp_path / "stored.pt")
    written = [safetensors.write(of.weights, tmp_path / "m.safetensors") for of in (found, plain)]
    assert written[0] == written[1]
    assert all(result.equal for result in copying.compare(found.weights, safetensors.read(tmp_path / "m.safetensors")))
    both = [torch_zip.write(of.weights, tmp_path / "out.pt", archive_name="m") for of in (found, plain)]
    assert both[0] == both[1]


def test_it_has_no_recipe_and_is_no_mirror(tmp_path):
    state = {"x": filled((50, 50))}
    path = deflated(state, tmp_path)
    found = torch_zip.read(path)
    assert recipe.make(found, copying.digest(path)) == b""
    stored = tmp_path / "stored.pt"
    small = recipe.make(torch_zip.read(stored), copying.digest(stored))
    with pytest.raises(FormatError, match="needs more of the tensor 'x'"):
        recipe.restore(small, found.weights, tmp_path / "out.pt")


@pytest.mark.parametrize(
    ("content", "size", "says"),
    [
        (deflate(FOUR + b"more"), 16, "longer than recorded"),
        (deflate(FOUR[:8]), 16, "8 are missing"),
        (deflate(FOUR) + b"more", 16, "are missing"),
        (deflate(FOUR) + bytes(200_000), 16, "longer than recorded"),
        (deflate(FOUR)[:-3], 16, "missing"),
        (b"\xff" * 20, 16, "it cannot be inflated"),
        (deflate(bytes(16)), 16, "its checksum differs"),
    ],
)
def test_damage_shows_while_reading(tmp_path, content, size, says):
    found = torch_zip.read(one_member(tmp_path / "m.pt", content, size))
    tensor = found.weights.tensors[0]
    with pytest.raises(ChecksumError, match=says):
        copying.read_tensor(found.weights, tensor)
    with pytest.raises(ChecksumError, match=says):
        safetensors.write(found.weights, tmp_path / "m.safetensors")
    with pytest.raises(ChecksumError, match=says):
        torch_zip.check_sums(tmp_path / "m.pt")


def test_what_deflate_cannot_do_is_refused_at_once(tmp_path):
    with pytest.raises(FormatError, match="gives the member 'archive/data/0' two sizes"):
        torch_zip.look(one_member(tmp_path / "m.pt", deflate(bytes(16)), 1 << 30))
    with pytest.raises(FormatError, match="two sizes"):
        torch_zip.look(one_member(tmp_path / "m.pt", FOUR, 17, method=0))


def test_a_bomb_is_not_inflated(tmp_path, monkeypatch):
    path = deflated({"x": torch.zeros(40_000_000)}, tmp_path)
    with pytest.raises(FormatError, match=r"compressed bytes would be inflated to 160,000,000"):
        torch_zip.look(path)
    many = OrderedDict((f"{index}", part) for index, part in enumerate(torch.zeros(1_000_000).split(1000)))
    with pytest.raises(FormatError, match="would be inflated to 4,000,000,000"):
        torch_zip.look(deflated(many, tmp_path))
    monkeypatch.setattr(inflating, "MAX_WHOLE", 100)
    with pytest.raises(FormatError, match=r"data.pkl' claims .* bytes; 100 is the limit"):
        torch_zip.look(deflated({"x": filled((2,))}, tmp_path))


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_a_damaged_pickle_is_refused(tmp_path, at):
    path = deflated(OrderedDict(x=filled((3,)), y=filled((4,))), tmp_path)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
    try:
        found = torch_zip.read(path)
        [copying.read_tensor(found.weights, tensor) for tensor in found.weights.tensors]
    except FormatError:
        return
    assert not any(
        result.equal is False
        for result in copying.compare(found.weights, torch_zip.read(tmp_path / "stored.pt").weights)
    )
