"""PyTorch zips: what torch saves is understood, what is not plain is only looked at, and torch loads what we write."""

import os
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pickle import UnpicklingError

import pytest
import torch

from containers.builders import (
    DTYPES,
    Call,
    Entry,
    Stored,
    Tensor,
    assert_same,
    build_zip,
    filled,
    pickled,
    raw,
    saved,
    torch_entries,
    torch_file,
)
from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers import copying, safetensors, torch_zip
from metta_hub.containers.plain import PLAIN_GLOBALS
from metta_hub.errors import ChecksumError, FormatError, NotPlainError

FOUR = struct.pack("<4f", 1, 2, 3, 4)
V3 = torch._utils._rebuild_tensor_v3
INTEGERS = Stored(4, class_=torch.IntStorage)


def plain(path):
    found = torch_zip.read(path)
    assert found.findings.plain
    assert found.findings.reason == ""
    return found


def not_plain(path, *says):
    """The file is looked at, and not read."""
    found = torch_zip.look(path)
    assert not found.findings.plain
    for text in says:
        assert text in found.findings.reason
    with pytest.raises(NotPlainError) as caught:
        torch_zip.read(path)
    assert found.findings.reason in str(caught.value)
    assert caught.value.globals == found.findings.globals
    return found


def impossible(path, *says):
    with pytest.raises(FormatError) as caught:
        torch_zip.look(path)
    assert not isinstance(caught.value, NotPlainError)
    for text in says:
        assert text in str(caught.value)


# --- reading what torch saves ---


def test_a_module(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    state = module.state_dict()
    found = plain(saved(state, tmp_path / "model.pt"))
    assert_same(state, found.weights, copying.read_tensor)
    assert found.root == "model"
    assert found.byteorder == "little"
    assert found.devices == ("cpu",)
    assert found.unused_bytes == 0
    assert found.warnings == ()
    assert found.findings.globals == (
        "collections.OrderedDict",
        "torch.FloatStorage",
        "torch.LongStorage",
        "torch._utils._rebuild_tensor_v2",
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (6,), (2, 4), (2, 1, 4)])
def test_every_dtype(tmp_path, dtype, shape):
    if dtype.startswith("float4") and not shape:
        pytest.skip("two values in one element cannot be a scalar of safetensors")
    state = {"x": filled(shape, dtype)}
    assert_same(state, plain(saved(state, tmp_path / "model.pt")).weights, copying.read_tensor)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path, protocol):
    """What torch.load would refuse, as long as it is told to load weights only, is read, with a warning."""
    state = OrderedDict(x=filled((2, 3)))
    found = plain(saved(state, tmp_path / "model.pt", pickle_protocol=protocol))
    assert_same(state, found.weights, copying.read_tensor)
    try:
        torch.load(tmp_path / "model.pt", weights_only=True)
    except UnpicklingError:
        assert [f"protocol {protocol}" in warning and "--rebuild" in warning for warning in found.warnings] == [True]
    else:
        assert found.warnings == ()


def test_parameters_and_metadata(tmp_path):
    state = OrderedDict(x=torch.nn.Parameter(filled((2, 3))), y=torch.nn.Parameter(filled((2,)), requires_grad=False))
    state._metadata = OrderedDict({"": {"version": 1}, "norm": {"version": 2, "note": None}})
    assert_same(state, plain(saved(state, tmp_path / "model.pt")).weights, copying.read_tensor)


def test_views_ties_and_order(tmp_path):
    base = filled((6, 4))
    state = OrderedDict(
        z=base,
        tied=base.detach(),
        same_object=base,
        transposed=base.t(),
        row=base[2],
        column=base[:, 1],
        steps=base[::2, ::3],
        expanded=base[0].expand(5, 4),
        nothing=base[6:],
        scalar=base[3, 3],
        last=filled((2, 3, 4)).permute(2, 0, 1),
        channels=filled((2, 3, 4, 5)).to(memory_format=torch.channels_last),
    )
    found = plain(saved(state, tmp_path / "model.pt"))
    assert_same(state, found.weights, copying.read_tensor)
    assert found.weights.tied == (("z", "tied", "same_object"),)
    assert found.unused_bytes == 0


def test_an_empty_view_may_lie_beyond_its_storage(tmp_path):
    state = {"x": torch.zeros(3, 0)[2:], "y": torch.zeros(0)}
    assert_same(state, plain(saved(state, tmp_path / "model.pt")).weights, copying.read_tensor)


@pytest.mark.parametrize(
    ("make", "unused"),
    [
        (lambda base: {"x": base[:1]}, 48),
        (lambda base: {"x": base[:, :1]}, 48),
        (lambda base: {"x": base[:, :2], "y": base[:, 2:]}, 0),
        (lambda base: {"x": base[1:], "y": base[:2]}, 0),
        (lambda base: {"x": base.t()}, 0),
        (lambda base: {"x": base.as_strided((2, 2), (12, 0))}, 56),
        (lambda base: {"x": base.t()[1:3]}, 32),
    ],
)
def test_bytes_that_no_tensor_uses(tmp_path, make, unused):
    found = plain(saved(make(filled((4, 4))), tmp_path / "model.pt"))
    assert found.unused_bytes == unused
    assert any("belong to no tensor" in warning for warning in found.warnings) is bool(unused)


def test_a_storage_that_nobody_names_is_unused(tmp_path):
    path = torch_file(tmp_path / "m.pt", {"x": Tensor(Stored(4))}, {"0": FOUR, "1": b"secret"})
    assert plain(path).unused_bytes == 6


def test_devices(tmp_path):
    state = {"x": Tensor(Stored(4, device="cuda:0")), "y": Tensor(Stored(4, key="1"))}
    found = plain(torch_file(tmp_path / "m.pt", state, {"0": FOUR, "1": FOUR}))
    assert found.devices == ("cpu", "cuda:0")
    assert "cuda:0" in found.warnings[0]


def test_checksums_that_were_not_recorded(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = saved({"x": filled((2, 3))}, tmp_path / "m.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    found = plain(path)
    assert not found.archive.checksummed
    assert all(storage.crc32 is None for storage in found.weights.storages.values())
    torch_zip.check_sums(path)


def test_storages_that_were_filled_after_saving_have_no_checksums(tmp_path):
    """torch.serialization.skip_data leaves room for the bytes, and 0 where their checksums would be."""
    state, path = OrderedDict(x=filled((2, 3)), y=filled((5,), "int64")), tmp_path / "m.pt"
    with torch.serialization.skip_data():
        torch.save(state, path)
    with path.open("r+b") as file:
        for key, tensor in zip(plain(path).weights.storages.values(), state.values(), strict=True):
            file.seek(key.offset)
            file.write(raw(tensor))
    assert_same(torch.load(path, weights_only=True), plain(path).weights, copying.read_tensor)
    assert_same(state, plain(path).weights, copying.read_tensor)
    torch_zip.check_sums(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"FloatStorage")] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumError, match=r"data\.pkl' is damaged"):
        torch_zip.look(path)


def test_files_without_the_newer_members(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(build_zip([*torch_entries(pickled({"x": Tensor(Stored(4))}), {"0": FOUR}, root="old name")]))
    found = plain(path)
    assert (found.root, found.byteorder) == ("old name", "")
    assert copying.read_tensor(found.weights, found.weights.tensors[0]) == FOUR


# --- what is not plain ---


def test_a_foreign_name_is_named_and_not_called(tmp_path):
    marker = tmp_path / "marker"
    value = {"x": Tensor(Stored(4)), "y": Call(os.system, f"touch {marker}")}
    found = not_plain(torch_file(tmp_path / "m.pt", value, {"0": FOUR}), "asks for posix.system")
    assert "posix.system" in found.findings.globals
    assert not marker.exists()
    assert type(found.root_object) is dict


def test_whole_modules_are_looked_at(tmp_path):
    path = saved(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    found = not_plain(path, "torch.nn.modules.linear.Linear")
    assert str(found.root_object.callable) == "torch.nn.modules.linear.Linear"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: [filled((2,))], "it holds a list, not a dict of tensors"),
        (lambda: filled((2,)), "not a dict of tensors"),
        (lambda: None, "it holds None"),
        (lambda: {"epoch": 3}, "its entry 'epoch' is a number, not a tensor"),
        (lambda: {"model": {"x": filled((2,))}}, "its entry 'model' is a dict"),
        (lambda: {"model": OrderedDict(x=filled((2,)))}, "its entry 'model' is not a tensor"),
        (lambda: {"none": None}, "its entry 'none' is None"),
        (lambda: {0: filled((2,))}, "a key of its dict is a number, not a name"),
        (lambda: {(1, 2): filled((2,))}, "not a name"),
        (lambda: {"x": torch.zeros(2, dtype=torch.complex128)}, "complex128"),
        (lambda: {"x": torch.zeros(2, dtype=torch.complex32)}, "torch.complex32"),
        (lambda: {"x": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "quantized"),
        (lambda: {"x": torch.eye(2).to_sparse()}, "sparse"),
        (lambda: {"x": torch.eye(2).to_sparse_csr()}, "sparse"),
        (lambda: {"x": torch.empty(2, device="meta")}, "meta"),
        (lambda: {"x": torch._neg_view(filled((2, 3), "int32"))}, "negated or conjugated view of I32"),
        (lambda: {"x": filled((2, 4), "float4_e2m1fn_x2").t()}, "4-bit"),
        (lambda: {"x": torch.nn.Buffer(filled((2,)))}, ""),
    ],
)
def test_reasons(tmp_path, make, says):
    path = saved(make(), tmp_path / "m.pt")
    if says:
        not_plain(path, says)
    else:
        torch_zip.look(path)


def with_attribute():
    state = OrderedDict(x=filled((2,)))
    state.note = "hello"
    return state


def with_deep_metadata(value):
    state = OrderedDict(x=filled((2,)))
    state._metadata = OrderedDict(a=value)
    return state


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (with_attribute, "attributes of its own"),
        (lambda: with_deep_metadata([1]), "_metadata holds more"),
        (lambda: with_deep_metadata({1: 2}), "_metadata holds more"),
        (lambda: with_deep_metadata(filled((2,))), "_metadata holds more"),
    ],
)
def test_the_dict_itself(tmp_path, make, says):
    not_plain(saved(make(), tmp_path / "m.pt"), says)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (Tensor(Stored(4), 0, (2, 2), (2, 1), {"conj": False, "neg": False}), ""),
        (Tensor(Stored(4), 0, (2, 2), (2, 1), None), ""),
        (Tensor(Stored(4), 0, (2, 2), (2, 1), {"other": 1}), "attributes"),
        (Tensor(Stored(4), 0, (2, 2), (2, 1), {"neg": 1}), "attributes"),
        (Tensor(Stored(4), 0, (2, 2), (2, 1), {"conj": True}), "conjugated view of F32"),
        (Tensor(Stored(4), 0, (2, 2), (2, 1), 1, 2), "not a tensor as torch saves one"),
        (Tensor(Stored(4), hooks=OrderedDict(a=1)), "hooks"),
        (Tensor(Stored(4), hooks={}), "hooks"),
        (Tensor(Stored(4), grad=1), "hooks"),
        (Tensor("storage"), "does not lie in a storage"),
        (Tensor(Stored("4")), "does not lie in a storage"),
        (Tensor(Stored(True)), "does not lie in a storage"),
        (Tensor(Stored(-4)), "does not lie in a storage"),
        (Tensor(Stored(4, key=0)), "does not lie in a storage"),
        (Tensor(Stored(4, device=None)), "does not lie in a storage"),
        (Tensor(Stored(4, class_="FloatStorage")), "a dtype that safetensors has no place for"),
        (Tensor(Stored(4, class_=torch.storage.UntypedStorage)), "a dtype that safetensors has no place for"),
        (Tensor(Stored(4, class_=OrderedDict)), "a dtype that safetensors has no place for"),
        (Call(torch._utils._rebuild_tensor, Stored(4), 0, (2, 2), (2, 1)), ""),
        (Tensor(Stored(4), 0, (2, 2), (2, 1), None, function=V3), "not a tensor as torch saves one"),
        (Call(OrderedDict), "not a tensor as torch saves one"),
        (Call(torch._utils._rebuild_parameter, Tensor(Stored(4)), True, OrderedDict()), ""),
        (Call(torch._utils._rebuild_parameter, Tensor(Stored(4)), True, OrderedDict(a=1)), "not one as torch saves it"),
        (Call(torch._utils._rebuild_parameter, 1, True, OrderedDict()), "not one as torch saves it"),
        (Call(torch._utils._rebuild_parameter, Tensor(Stored(4)), 1, OrderedDict()), "not one as torch saves it"),
        (
            Call(torch._utils._rebuild_parameter, Tensor(INTEGERS), True, OrderedDict()),
            "requires gradients, which torch",
        ),
        (Call(torch._utils._rebuild_parameter, Tensor(INTEGERS), False, OrderedDict()), ""),
        (Tensor(INTEGERS, grad=True), "of I32 requires gradients, which torch refuses to load"),
    ],
)
def test_tensors_that_are_not_as_torch_saves_them(tmp_path, tensor, says):
    path = torch_file(tmp_path / "m.pt", {"x": tensor}, {"0": FOUR})
    if says:
        not_plain(path, says)
    else:
        assert copying.read_tensor(plain(path).weights, plain(path).weights.tensors[0]) == FOUR


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"code/x.py": b"import os"}, "it holds 'archive/code/x.py'"),
        ({"data/x": b"1"}, "it holds 'archive/data/x'"),
        ({"data/1/2": b"1"}, "it holds 'archive/data/1/2'"),
        ({"constants.pkl": b"N."}, "constants.pkl"),
        ({"../evil": b"1"}, "evil"),
        ({"byteorder": b"big"}, "big-endian"),
        ({"byteorder": b"middle"}, "'byteorder' is not what torch.save writes"),
        ({".data/serialization_id": b"1" * 65}, "'.data/serialization_id' is not what"),
        ({".format_version": b"secret"}, "'.format_version' is not what"),
        ({".storage_alignment": b"9" * 1000}, "'.storage_alignment' is not what"),
    ],
)
def test_members_that_torch_does_not_write(tmp_path, members, says):
    not_plain(torch_file(tmp_path / "m.pt", {"x": Tensor(Stored(4))}, {"0": FOUR}, **members), says)


def test_a_member_outside_of_the_folder(tmp_path):
    path = tmp_path / "m.pt"
    entries = [*torch_entries(pickled({"x": Tensor(Stored(4))}), {"0": FOUR}), Entry("other/version", b"3\n")]
    path.write_bytes(build_zip(entries))
    not_plain(path, "it holds 'other/version'")
    path.write_bytes(build_zip([*entries[:-1], Entry("byteorder", b"little")]))
    not_plain(path, "it holds 'byteorder'")


def test_bytes_after_the_pickle(tmp_path):
    path = tmp_path / "m.pt"
    data = pickled({"x": Tensor(Stored(4))}) + b"cos\nsystem\n."
    path.write_bytes(build_zip(torch_entries(data, {"0": FOUR})))
    not_plain(path, "12 bytes follow its pickle")
    assert not torch_zip.judge_pickle(data).plain


# --- what is impossible ---


@pytest.mark.parametrize(
    ("state", "storages", "says"),
    [
        ({"x": Tensor(Stored(4), 1)}, {"0": FOUR}, "'x' reaches beyond its storage of 16 bytes"),
        ({"x": Tensor(Stored(4), 0, (2, 3), (3, 1))}, {"0": FOUR}, "reaches beyond"),
        ({"x": Tensor(Stored(4), 0, (2, 2), (3, 1))}, {"0": FOUR}, "reaches beyond"),
        ({"x": Tensor(Stored(4), 0, (1 << 40,), (0,))}, {"0": FOUR}, "repeat 16 bytes until they take"),
        ({"x": Tensor(Stored(4), 0, (1 << 62, 1 << 62), (0, 0))}, {"0": FOUR}, "repeat 16 bytes until they take"),
        ({"x": Tensor(Stored(4), -1)}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 0, (2, -2), (2, 1))}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 3, (2, 2), (-2, 1))}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 0, (2, 2), (1,))}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 0, [2, 2], (2, 1))}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 0, (True, 2), (2, 1))}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 0, (2.0, 2), (2, 1))}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 1 << 80, (0,), (1,))}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(4), 0, (1,) * 65, (1,) * 65)}, {"0": FOUR}, "no tensor can have"),
        ({"x": Tensor(Stored(5))}, {"0": FOUR}, "claims that the storage '0' has 20 bytes, of which the file has 16"),
        ({"x": Tensor(Stored(3), 0, (1,), (1,))}, {"0": FOUR}, "12 bytes, of which the file has 16"),
        ({"x": Tensor(Stored(1 << 38))}, {"0": FOUR}, "claims that the storage '0' has 1,099,511,627,776 bytes"),
        ({"x": Tensor(Stored(4, key="7"))}, {"0": FOUR}, "the storage '7', which is not there"),
        ({"x": Tensor(Stored(4, key="../../etc/passwd"))}, {"0": FOUR}, "which is not there"),
        (
            {"x": Tensor(Stored(4)), "y": Tensor(Stored(4, class_=torch.IntStorage))},
            {"0": FOUR},
            "describes the storage '0' in two ways",
        ),
        ({"\ud800": Tensor(Stored(4))}, {"0": FOUR}, "not text"),
    ],
)
def test_impossible_claims(tmp_path, state, storages, says):
    impossible(torch_file(tmp_path / "m.pt", state, storages), says)


@pytest.mark.parametrize("start", [b"}", b"ccollections\nOrderedDict\n)R"])
def test_a_name_given_twice(tmp_path, start):
    item = b"X\1\0\0\0x" + pickled(Tensor(Stored(4)))[2:-1]
    path = tmp_path / "m.pt"
    path.write_bytes(build_zip(torch_entries(b"\x80\x02" + start + b"(" + item + item + b"u.", {"0": FOUR})))
    impossible(path, "twice")


def test_a_file_that_torch_save_did_not_write(tmp_path):
    path = tmp_path / "m.zip"
    path.write_bytes(build_zip([Entry("policy_spec.json", b"{}")]))
    impossible(path, "it holds no data.pkl")
    path.write_bytes(build_zip([Entry("a/data.pkl", b"N."), Entry("b/data.pkl", b"N.")]))
    impossible(path, "it holds 2 pickles named data.pkl")


def test_a_damaged_pickle_fails_its_checksum(tmp_path):
    path = torch_file(tmp_path / "m.pt", {"x": Tensor(Stored(4))}, {"0": FOUR})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"FloatStorage", b"BloatStorage"))
    with pytest.raises(ChecksumError, match=r"'archive/data.pkl' is damaged"):
        torch_zip.look(path)


def test_damaged_values_fail_their_checksum(tmp_path):
    path = saved({"x": filled((2, 3))}, tmp_path / "m.pt")
    weights = torch_zip.read(path).weights
    at = weights.storages["0"].offset + 5
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumError, match="m/data/0"):
        torch_zip.check_sums(path)
    with pytest.raises(ChecksumError, match="'x'"):
        safetensors.write(weights, tmp_path / "out.safetensors")
    with pytest.raises(ChecksumError):
        torch_zip.write(weights, tmp_path / "out.pt", archive_name="m")
    with pytest.raises(ChecksumError):
        copying.read_tensor(weights, weights.tensors[0])


# --- writing ---


def everything():
    base = filled((4, 6))
    state = OrderedDict(base=base, tied=base.detach(), view=base[1:3], turned=base.t(), scalar=filled(()))
    state.update({f"dtype.{dtype}": filled((2, 4), dtype) for dtype in DTYPES})
    state.update(none=torch.zeros(0), no_rows=torch.zeros(0, 3), deep=filled((1, 2, 1, 3, 2)), long=filled((70_000,)))
    state.update({f"many.{number}": filled((2,), seed=number) for number in range(1100)})
    return state


def test_the_same_bytes_as_torch_writes(tmp_path):
    path = saved(everything(), tmp_path / "model.pt")
    found = torch_zip.read(path)
    written = torch_zip.write(found.weights, tmp_path / "out.pt", archive_name="model")
    assert written == copying.digest(tmp_path / "out.pt")
    theirs, ours = path.read_bytes(), (tmp_path / "out.pt").read_bytes()
    identity = found.archive.members[-1]
    assert identity.name == "model/.data/serialization_id"
    assert ours[: identity.header] == theirs[: identity.header]


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_what_is_written(tmp_path, mmap):
    state = everything()
    found = torch_zip.read(saved(state, tmp_path / "model.pt"))
    out = tmp_path / "out.pt"
    torch_zip.write(found.weights, out, archive_name="any")
    loaded = torch.load(out, weights_only=True, mmap=mmap)
    assert list(loaded) == list(state)
    for name, tensor in state.items():
        assert (loaded[name].dtype, loaded[name].shape, loaded[name].stride()) == (
            tensor.dtype,
            tensor.shape,
            tensor.stride(),
        )
        assert raw(loaded[name]) == raw(tensor)
    assert loaded["base"].data_ptr() == loaded["tied"].data_ptr()
    assert loaded["view"].untyped_storage().data_ptr() == loaded["base"].untyped_storage().data_ptr()
    with zipfile.ZipFile(out) as oracle:
        assert oracle.testzip() is None
    assert torch_zip.read(out).weights.tied == found.weights.tied


def test_from_safetensors(tmp_path):
    state = everything()
    mirror = tmp_path / "mirror.safetensors"
    safetensors.write(torch_zip.read(saved(state, tmp_path / "m.pt")).weights, mirror)
    torch_zip.write(safetensors.read(mirror), tmp_path / "out.pt", archive_name="m")
    loaded = torch.load(tmp_path / "out.pt", weights_only=True)
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert raw(loaded[name]) == raw(tensor)


def table(tmp_path, *infos):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(64))
    return Weights(infos, {"s": Storage(path, 0, 63), "t": Storage(path, 0, 64)})


def test_what_torch_cannot_save_is_refused(tmp_path):
    floats = TensorInfo("x", "F32", (2,), (1,), "t", 0)
    mixed = table(tmp_path, floats, TensorInfo("y", "I32", (2,), (1,), "t", 0))
    with pytest.raises(FormatError, match="shares bytes with one of another dtype"):
        torch_zip.write(mixed, tmp_path / "out.pt", archive_name="m")
    for odd in (TensorInfo("x", "F32", (2,), (1,), "s", 0), TensorInfo("x", "F32", (2,), (1,), "t", 2)):
        with pytest.raises(FormatError, match="whole elements"):
            torch_zip.write(table(tmp_path, odd), tmp_path / "out.pt", archive_name="m")


def test_new_dtypes_may_share_bytes(tmp_path):
    both = table(tmp_path, TensorInfo("x", "U16", (2,), (1,), "t", 0), TensorInfo("y", "U32", (2,), (1,), "t", 4))
    torch_zip.write(both, tmp_path / "out.pt", archive_name="m")
    assert torch.load(tmp_path / "out.pt", weights_only=True)["y"].dtype == torch.uint32


def test_names_of_plain_pickles_are_those_torch_allows():
    known = torch._weights_only_unpickler._get_allowed_globals()
    spelled = PLAIN_GLOBALS - {"torch.UntypedStorage"}
    assert spelled <= set(known)


def test_nothing_of_torch_is_imported():
    code = (
        "import sys; import metta_hub.containers.recipe, metta_hub.containers.safetensors; "
        "print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
