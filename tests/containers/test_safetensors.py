"""safetensors files: read as strictly as strangers' data asks, written byte for byte as safetensors writes them."""

import json
import struct
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file

from containers.builders import DTYPES, assert_same, by_safetensors, filled, raw, saved
from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers import copying, dtypes, safetensors, torch_zip
from metta_hub.errors import FormatError


def everything():
    state = OrderedDict({f"dtype.{dtype}": filled((2, 4), dtype) for dtype in DTYPES})
    state.update(zebra=filled((3,)), apple=filled((3,)), scalar=filled(()), none=torch.zeros(0), rows=torch.zeros(0, 3))
    state['quote"back\\slash\n\x01\x7fé漢😀'] = filled((1,))
    state["turned"] = filled((3, 5)).t()
    return state


def written(state, folder):
    weights = torch_zip.read(saved(state, folder / "m.pt")).weights
    done = safetensors.write(weights, folder / "ours.safetensors")
    assert done == copying.digest(folder / "ours.safetensors")
    return folder / "ours.safetensors"


def test_the_same_bytes_as_safetensors_writes(tmp_path):
    ours = written(everything(), tmp_path)
    theirs = by_safetensors(everything(), tmp_path / "theirs.safetensors")
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (6,), (2, 4)])
def test_every_dtype(tmp_path, dtype, shape):
    if dtype.startswith("float4") and not shape:
        pytest.skip("two values in one element cannot be a scalar of safetensors")
    state = {"x": filled(shape, dtype)}
    theirs = by_safetensors(state, tmp_path / "theirs.safetensors")
    assert written(state, tmp_path).read_bytes() == theirs.read_bytes()
    assert_same(state, safetensors.read(theirs), copying.read_tensor)


def test_the_table_of_dtypes_is_complete():
    names = {dtype.torch for dtype in dtypes.DTYPES}
    assert names == set(DTYPES)
    for dtype in dtypes.DTYPES:
        assert torch._utils._element_size(getattr(torch, dtype.torch)) == dtype.itemsize
        if dtype.storage:
            assert torch.storage._dtype_to_storage_type_map()[getattr(torch, dtype.torch)] == dtype.storage
        else:
            assert getattr(torch, dtype.torch) in torch.storage._new_dtypes()


def test_tied_names_are_written_under_each(tmp_path):
    base = filled((3, 3))
    path = written(OrderedDict(b=base, a=base.detach(), c=base[1]), tmp_path)
    loaded = load_file(path)
    assert raw(loaded["a"]) == raw(loaded["b"]) == raw(base)
    assert raw(loaded["c"]) == raw(base[1])


def test_metadata(tmp_path):
    path = written({"x": filled((2,))}, tmp_path)
    assert safetensors.look(path).metadata == {"format": "pt"}


def test_a_header_can_be_read_from_the_first_bytes(tmp_path):
    path = written(everything(), tmp_path)
    content = path.read_bytes()
    needed = safetensors.header_size(content[:8], len(content), path)
    assert safetensors.parse_header(content[:needed], len(content), path) == safetensors.read(path)
    assert safetensors.parse_header(content[: needed + 10], len(content), path) == safetensors.read(path)
    with pytest.raises(FormatError, match="are there"):
        safetensors.parse_header(content[: needed - 1], len(content), path)


def test_names_that_cannot_be_written(tmp_path):
    data = tmp_path / "data"
    data.write_bytes(bytes(8))
    for name in ("__metadata__", "\ud800"):
        info = TensorInfo(name, "F32", (2,), (1,), "s", 0)
        with pytest.raises(FormatError):
            safetensors.write(Weights((info,), {"s": Storage(data, 0, 8)}), tmp_path / "out")


# --- hostile headers ---


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def file_of(header, data=bytes(8)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


GOOD = {"x": entry()}
TWO = {"a": entry(), "b": entry(offsets=(8, 16))}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it has 0 bytes"),
        (b"1234567", "it has 7 bytes"),
        (struct.pack("<Q", 100_000_001) + b"{}", "claims 100,000,001 bytes; 100,000,000 is the limit"),
        (struct.pack("<Q", 1 << 63) + b"{}", "is the limit"),
        (struct.pack("<Q", 1000) + b"{}", "the file is incomplete: its header claims 1,000 bytes"),
        (file_of(b""), "does not begin with '{'"),
        (file_of(b" {}"), "does not begin with '{'"),
        (file_of(b"[]"), "does not begin with '{'"),
        (file_of(b"{\xff}"), "not UTF-8"),
        (file_of(b"{"), "not JSON"),
        (file_of(b"{} {}"), "not JSON"),
        (file_of(b'{"a":' * 100_000), "nested too deeply"),
        (file_of(b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'), "holds NaN"),
        (file_of(b'{"x":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,8]}}'), "holds Infinity"),
        (file_of(b'{"x":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'), "not JSON"),
        (file_of(b'{"x":1,"x":2}'), "holds the key 'x' twice"),
        (file_of(b'{"x":{"dtype":"F32","dtype":"F64"}}'), "holds the key 'dtype' twice"),
        (file_of({"__metadata__": [], **GOOD}), "__metadata__ is not text by name"),
        (file_of({"__metadata__": {"a": 1}, **GOOD}), "__metadata__ is not text by name"),
        (file_of({"x": []}), "is not dtype, shape and data_offsets"),
        (file_of({"x": {**entry(), "more": 1}}), "is not dtype, shape and data_offsets"),
        (file_of({"x": {"dtype": "F32"}}), "is not dtype, shape and data_offsets"),
        (file_of({"x": entry("F6_E2M3")}), "has the dtype 'F6_E2M3'"),
        (file_of({"x": entry(7)}), "has the dtype 7"),
        (file_of({"x": entry(shape=[-2])}), "no tensor can have"),
        (file_of({"x": entry(shape=[True, 2])}), "no tensor can have"),
        (file_of({"x": entry(shape=[2.0])}), "no tensor can have"),
        (file_of({"x": entry(shape=["2"])}), "no tensor can have"),
        (file_of({"x": entry(shape=[1] * 64 + [2])}), "no tensor can have"),
        (file_of({"x": entry(shape=[1 << 63])}), "no tensor can have"),
        (file_of({"x": entry(offsets=[0])}), "no tensor can have"),
        (file_of({"x": entry(offsets=[0, 8, 9])}), "no tensor can have"),
        (file_of({"x": entry(offsets=[-8, 0])}), "no tensor can have"),
        (file_of({"x": entry(offsets=[8, 0])}), "takes 8 bytes by its dtype and shape, -8 by its offsets"),
        (file_of({"x": entry(shape=[3])}), "takes 12 bytes by its dtype and shape, 8 by its offsets"),
        (file_of({"x": entry("F4", [3], [0, 1])}), "takes 2 bytes"),
        (file_of({"x": entry(shape=[1 << 62, 1 << 62])}), "by its dtype and shape"),
        (file_of({"\ud800": entry()}), "is not text"),
        (file_of({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "overlaps another"),
        (file_of({"a": entry(), "b": entry()}), "overlaps another"),
        (file_of({"x": entry(offsets=(8, 16))}, bytes(16)), "8 bytes before the tensor 'x' belong to nothing"),
        (file_of(GOOD, bytes(9)), "1 bytes follow its last tensor"),
        (file_of({}, bytes(1)), "1 bytes follow its last tensor"),
        (file_of(TWO, bytes(10)), "the file is incomplete: it has 10 of 16 bytes of tensors"),
    ],
)
def test_what_is_refused(tmp_path, content, says):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        safetensors.read(path)
    assert says in str(caught.value)


def test_absurd_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 1)
    path = tmp_path / "m.safetensors"
    for header in (b"{" + b'"a":{},' * 200 + b"}", b'{"x":[' + b"1," * 200 + b"1]}", b'{"x":' + b"[" * 200 + b"}"):
        path.write_bytes(file_of(header))
        with pytest.raises(FormatError, match="more than 1 tensors"):
            safetensors.read(path)


def test_empty_tensors_may_lie_anywhere(tmp_path):
    header = {"a": entry(shape=[0], offsets=[8, 8]), "b": entry(), "c": entry(shape=[0, 3], offsets=[0, 0])}
    path = tmp_path / "m.safetensors"
    path.write_bytes(file_of(header))
    assert [info.name for info in safetensors.read(path).tensors] == ["c", "b", "a"]


def test_truncated_anywhere(tmp_path):
    content = written({"x": filled((3, 2)), "y": filled((2,), "bool")}, tmp_path).read_bytes()
    path = tmp_path / "cut.safetensors"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(FormatError):
            safetensors.read(path)
