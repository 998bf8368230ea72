"""Moving bytes: any strides, blocks and threads, checksums on the way, files that change, and comparisons."""

import hashlib
import os
import threading
import tracemalloc
import zlib
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.builders import filled, raw, saved
from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers import copying, safetensors, strided, torch_zip
from metta_hub.containers.blocks import BLOCK, Checksum, Range
from metta_hub.containers.copying import Comparison, Written
from metta_hub.errors import ChecksumError, SourceChangedError


def bytes_in(path, count, seed=1):
    content = hashlib.shake_256(bytes([seed])).digest(count)
    path.write_bytes(content)
    return content


def test_parts_become_a_file(tmp_path):
    content = bytes_in(tmp_path / "a", 1000)
    parts = [b"head", Range(tmp_path / "a", 100, 200), b"", Range(tmp_path / "a", 0, 0), b"tail"]
    written = copying.write(parts, tmp_path / "out")
    expected = b"head" + content[100:300] + b"tail"
    assert (tmp_path / "out").read_bytes() == expected
    assert written == Written(len(expected), hashlib.sha256(expected).hexdigest())
    assert written == copying.digest(tmp_path / "out") == copying.digest_bytes(expected)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 1, 7 * BLOCK + 12345])
def test_files_of_any_number_of_blocks(tmp_path, size):
    content = bytes_in(tmp_path / "a", size)
    written = copying.copy(tmp_path / "a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
    assert written == copying.digest_bytes(content)
    assert copying.write([content], tmp_path / "out", hashed=False) == Written(size, "")


def test_an_existing_file_is_overwritten_and_gets_the_usual_mode(tmp_path):
    (tmp_path / "old").write_bytes(b"much longer than before")
    copying.write([b"new"], tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"new"
    copying.write([b"new"], tmp_path / "fresh")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o666 & ~umask


@given(cuts=st.lists(st.integers(0, 3 * BLOCK), max_size=8), sizes=st.lists(st.integers(0, BLOCK + 5), max_size=8))
@settings(max_examples=25, deadline=None)
def test_any_parts(tmp_path_factory, cuts, sizes):
    folder = tmp_path_factory.mktemp("parts")
    content = bytes_in(folder / "a", 4 * BLOCK + 5)
    parts, expected = [], b""
    for index, (start, size) in enumerate(zip(cuts, sizes, strict=False)):
        piece = content[start : start + size]
        expected += piece
        storage = Storage(folder / "a", start, size, zlib.crc32(piece))
        parts.append(
            piece if index % 3 == 2 else Range(folder / "a", start, size, Checksum(storage, "x"), index % 3 == 1)
        )
    assert copying.write(parts, folder / "out") == copying.digest_bytes(expected)
    assert (folder / "out").read_bytes() == expected


@pytest.mark.parametrize("size", [10, BLOCK, 5 * BLOCK + 3])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_wrong_checksum_stops_the_copy(tmp_path, size, at_once, hashed):
    content = bytes_in(tmp_path / "a", size)
    for crc32, wrong in ((zlib.crc32(content), False), (zlib.crc32(content) ^ 1, True)):
        checksum = Checksum(Storage(tmp_path / "a", 0, size, crc32), "the member")
        parts = [Range(tmp_path / "a", 0, size, checksum, at_once), b"tail" * BLOCK]
        if wrong:
            with pytest.raises(ChecksumError, match="'the member'"):
                copying.write(parts, tmp_path / "out", hashed=hashed)
        else:
            copying.write(parts, tmp_path / "out", hashed=hashed)


@pytest.mark.parametrize("size", [10, 20 * BLOCK])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_full_disk_is_an_error_and_leaves_no_thread(tmp_path, size, hashed):
    bytes_in(tmp_path / "a", size)
    before = threading.active_count()
    with pytest.raises(OSError, match="No space left"):
        copying.write([Range(tmp_path / "a", 0, size)], Path("/dev/full"), hashed=hashed)
    with pytest.raises(SourceChangedError):
        copying.write([Range(tmp_path / "a", 0, size + 1)], tmp_path / "out", hashed=hashed)
    assert threading.active_count() == before


def test_a_file_that_became_shorter(tmp_path):
    bytes_in(tmp_path / "a", 100)
    with pytest.raises(SourceChangedError, match="it ended at byte 100"):
        copying.write([Range(tmp_path / "a", 50, 100)], tmp_path / "out")
    info = TensorInfo("x", "F32", (5, 5), (1, 6), "s", 0)
    weights = Weights((info,), {"s": Storage(tmp_path / "a", 0, 200)})
    with pytest.raises(SourceChangedError):
        copying.read_tensor(weights, info)


def test_files_are_closed(tmp_path):
    bytes_in(tmp_path / "a", 10)
    before = len(list(Path("/proc/self/fd").iterdir()))
    copying.write([Range(tmp_path / "a", 0, 10)], tmp_path / "out")
    with pytest.raises(SourceChangedError):
        copying.write([Range(tmp_path / "a", 0, 11)], tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        copying.write([Range(tmp_path / "missing", 0, 11)], tmp_path / "out")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_memory_stays_flat(tmp_path):
    state = {
        "a": filled((4 << 20,), "uint8"),
        "b": filled((2048, 3072), "bfloat16").t(),
        "c": filled((3 << 20,), "uint8"),
    }
    found = torch_zip.read(saved(state, tmp_path / "m.pt"))
    tracemalloc.start()
    safetensors.write(found.weights, tmp_path / "out.safetensors")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * BLOCK + 5 * strided._TILE


# --- strides ---


def assert_gathered(tmp_path, tensor):
    found = torch_zip.read(saved({"x": tensor}, tmp_path / "m.pt")).weights
    (info,) = found.tensors
    assert b"".join(strided.gather(info, found.storages[info.storage])) == raw(tensor)
    assert copying.read_tensor(found, info) == raw(tensor)


@pytest.mark.parametrize("tile", [64, 1 << 10, 4 << 20])
@pytest.mark.parametrize("page", [1, 4096])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.t(),
        lambda x: x[:, ::3],
        lambda x: x[::5],
        lambda x: x[::5, ::7],
        lambda x: x[3],
        lambda x: x[:, 3],
        lambda x: x[:0],
        lambda x: x.reshape(8, 5, 6, 11).permute(3, 1, 0, 2),
        lambda x: x.reshape(8, 5, 6, 11).permute(2, 0, 3, 1)[1:3, ::2],
        lambda x: x[0].expand(7, 66),
        lambda x: x[:, :1].expand(40, 9),
        lambda x: x[:, 0].expand(3, 40).t(),
        lambda x: x[0, 0].expand(5, 6),
        lambda x: x.unfold(1, 4, 2),
        lambda x: x.as_strided((3, 4, 5), (1, 1, 1)),
        lambda x: x.as_strided((3, 4, 5), (2, 3, 2)),
        lambda x: x.as_strided((2, 3, 2), (40, 7, 40)),
        lambda x: x.diagonal(),
        lambda x: x.unsqueeze(1).transpose(0, 2),
    ],
)
def test_views(tmp_path, monkeypatch, view, tile, page):
    monkeypatch.setattr(strided, "_TILE", tile)
    monkeypatch.setattr(strided, "_PAGE", page)
    assert_gathered(tmp_path, view(filled((40, 66))))


@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "float32", "complex64", "uint16", "float8_e4m3fn"])
def test_elements_of_every_width(tmp_path, dtype):
    assert_gathered(tmp_path, filled((9, 7), dtype).t())


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_strides(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("strides")
    shape = data.draw(st.lists(st.integers(1, 6), max_size=5))
    stride = [data.draw(st.integers(0, 40)) for _ in shape]
    span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    offset = data.draw(st.integers(0, 5))
    tensor = filled((span + offset,), "int16").as_strided(shape, stride, offset)
    info = TensorInfo("x", "I16", tuple(shape), tuple(stride), "s", 2 * offset)
    (folder / "a").write_bytes(raw(tensor.as_strided((span + offset,), (1,), 0)))
    storage = Storage(folder / "a", 0, 2 * (span + offset))
    tile = data.draw(st.sampled_from([1, 3, 16, 1000]))
    pieces = list(strided.tiles(strided.merged(shape, stride), tile))
    count = 1
    for size in shape:
        count *= size
    assert all(torch.tensor([size for size, _ in dimensions]).prod() <= tile for dimensions, _ in pieces)
    assert b"".join(strided.gather(info, storage)) == raw(tensor)
    used = {start + at for start, stop in strided.stretches(info, 100_000) for at in range(stop - start)}
    touched = torch.zeros(span + offset, dtype=torch.bool)
    touched.as_strided(shape, stride, offset).fill_(True)
    assert used == {2 * at + half for at in range(span + offset) if touched[at] for half in (0, 1)}


# --- comparing ---


def two(tmp_path, one, other):
    mine = torch_zip.read(saved(one, tmp_path / "one.pt")).weights
    return mine, torch_zip.read(saved(other, tmp_path / "other.pt")).weights


def test_a_mirror_equals_its_original(tmp_path):
    state = OrderedDict(a=filled((3, 2 * BLOCK // 4)), b=filled((300, 400)).t(), c=filled((0,)), d=filled(()))
    mine = torch_zip.read(saved(state, tmp_path / "m.pt")).weights
    safetensors.write(mine, tmp_path / "m.safetensors")
    results = copying.compare(mine, safetensors.read(tmp_path / "m.safetensors"))
    assert results == [Comparison(name, equal=True) for name in state]


def test_differences_are_named(tmp_path):
    one = OrderedDict(
        same=filled((3,)), last=filled((BLOCK + 1,), "uint8"), kind=filled((4,)), shape=filled((4,)), mine=filled((1,))
    )
    changed = one["last"].clone()
    changed[-1] ^= 1
    other = OrderedDict(
        theirs=filled((1,)),
        same=filled((3,)),
        last=changed,
        kind=filled((4,)).view(torch.int32),
        shape=filled((4,)).reshape(2, 2),
    )
    assert copying.compare(*two(tmp_path, one, other)) == [
        Comparison("same", equal=True),
        Comparison("last", equal=False, detail="the values differ"),
        Comparison("kind", equal=False, detail="F32 on one side, I32 on the other"),
        Comparison("shape", equal=False, detail="shape [4] on one side, [2, 2] on the other"),
        Comparison("mine", equal=False, detail="only on the first side"),
        Comparison("theirs", equal=False, detail="only on the second side"),
    ]


def test_not_a_number_equals_itself_and_zeros_differ_by_sign(tmp_path):
    nan, zero = torch.tensor([float("nan")]), torch.tensor([0.0])
    results = copying.compare(*two(tmp_path, {"nan": nan, "zero": zero}, {"nan": nan.clone(), "zero": -zero}))
    assert [result.equal for result in results] == [True, False]


def test_storages_that_no_tensor_covers_are_checked_too(tmp_path):
    path = saved({"x": filled((8, 8))[:, :4]}, tmp_path / "m.pt")
    weights = torch_zip.read(path).weights
    content = bytearray(path.read_bytes())
    content[weights.storages["0"].offset + 20] ^= 1  # a byte that the view leaves out
    path.write_bytes(content)
    with pytest.raises(ChecksumError):
        safetensors.write(weights, tmp_path / "out.safetensors")
