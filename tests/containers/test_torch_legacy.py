"""PyTorch's stream of before 1.6: what torch loads from it is what we read, and every lie in one is refused."""

import struct
from collections import OrderedDict

import pytest
import torch

from containers.builders import (
    DTYPES,
    MACHINE,
    Call,
    Stored,
    Tensor,
    assert_same,
    filled,
    legacy_stream,
    pickled,
    raw,
    saved,
)
from metta_hub.containers import copying, object_opcodes, pickles, torch_file, torch_legacy
from metta_hub.errors import FormatError, NotPlainError

FOUR = struct.pack("<4f", 1, 2, 3, 4)


class Old(Stored):
    """A storage as the stream names one, with what PyTorch up to 0.3 says of parts."""

    def __init__(self, count, key="0", class_=torch.FloatStorage, device="cpu", view=None):
        self.pid = ("storage", class_, key, device, count, view)


def legacy(path, *args, **options):
    path.write_bytes(legacy_stream(*args, **options))
    return path


def old(state, path, **options):
    return saved(state, path, _use_new_zipfile_serialization=False, **options)


def plain(path):
    found = torch_file.read(path)
    assert type(found) is torch_legacy.TorchLegacy
    assert (found.findings.plain, found.container) == (True, "torch legacy")
    return found


def values(path):
    weights = plain(path).weights
    return {info.name: bytes(copying.read_tensor(weights, info)) for info in weights.tensors}


# --- reading ---


def test_a_module(tmp_path):
    state = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).state_dict()
    found = plain(old(state, tmp_path / "model.pth"))
    assert_same(state, found.weights, copying.read_tensor)
    assert (found.devices, found.unused_bytes, found.warnings) == (("cpu",), 0, ())
    assert found.size == (tmp_path / "model.pth").stat().st_size


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path, dtype):
    state = {"x": filled((2, 4), dtype), "none": filled((0, 4), dtype)}
    assert_same(state, plain(old(state, tmp_path / "m.pt")).weights, copying.read_tensor)


def test_what_torch_writes_and_does_not_read_has_a_warning(tmp_path):
    path = old({"x": filled((4,), "uint16"), "y": filled((4,), "float8_e5m2"), "z": filled((4,))}, tmp_path / "m.pt")
    with pytest.raises(AttributeError, match="UntypedStorage"):
        torch.load(path, weights_only=True)
    (warning,) = plain(path).warnings
    assert warning.startswith("torch.load reads no F8_E5M2, U16 from this old format")
    path = old({"x": filled((4,), "uint16"), "epoch": 3}, tmp_path / "m.pt")
    not_plain(path, "its entry 'epoch' is a number")
    assert torch_file.look(path).warnings == ()


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path, protocol):
    state = OrderedDict(x=filled((2, 3)), y=torch.nn.Parameter(filled((2,))))
    path = old(state, tmp_path / "m.pt", pickle_protocol=protocol)
    assert_same(state, torch_file.read(path).weights, copying.read_tensor)
    assert type(torch_file.read(path)) is torch_legacy.TorchLegacy


def test_views_ties_and_order(tmp_path):
    base = filled((6, 4))
    state = OrderedDict(z=base, tied=base.detach(), turned=base.t(), row=base[2], a=filled((3,)), steps=base[::2, ::3])
    found = plain(old(state, tmp_path / "m.pt"))
    assert_same(state, found.weights, copying.read_tensor)
    assert found.weights.tied == (("z", "tied"),)


def test_a_pickle_of_many_megabytes(tmp_path, monkeypatch):
    state = OrderedDict((f"{index}.{'x' * 100}", filled((1,), seed=index)) for index in range(300))
    path = old(state, tmp_path / "m.pt")
    monkeypatch.setattr(torch_legacy, "_FIRST_BYTES", 16)
    assert_same(state, plain(path).weights, copying.read_tensor)


# --- what PyTorch 0.3 and Python 2 wrote ---


def test_tensors_and_parts_as_pytorch_03_wrote_them(tmp_path):
    tensor = Call(torch._utils._rebuild_tensor, Old(4, view=("9", 1, 2)), 1, (1,), (1,))
    whole = Call(torch._utils._rebuild_tensor, Old(4), 0, (2, 2), (1, 2))
    path = legacy(tmp_path / "m.pt", {"part": tensor, "whole": whole}, {"0": FOUR})
    loaded = torch.load(path, weights_only=True)
    assert values(path) == {"part": raw(loaded["part"]), "whole": raw(loaded["whole"])}
    assert values(path)["part"] == FOUR[8:12]
    assert plain(path).weights.tied == ()


def python2(pairs, protocol=2):
    """An OrderedDict as Python 2 pickles one: called with a list of lists."""
    return pickled(Call(OrderedDict, pairs), protocol)


def test_a_dict_as_python_2_wrote_it(tmp_path):
    tensor = Tensor(Old(4), hooks=Call(OrderedDict, []))
    path = legacy(tmp_path / "m.pt", python2([["x", tensor], ["y", Tensor(Old(4), 2, (2,), (1,))]]), {"0": FOUR})
    loaded = torch.load(path, weights_only=True)
    assert values(path) == {"x": raw(loaded["x"]), "y": raw(loaded["y"])}


def test_what_is_appended_after_the_call_is_not_there():
    """A pickle may go on with a list that it called with; the dict is made by then."""
    found = pickles.parse(b"\x80\x02ccollections\nOrderedDict\n]q\1\x85Rh\1](X\1\0\0\0yK\1ea0.", "x")
    assert found.root.args == ([],)


def test_lists_in_calls_are_copied_so_often_and_not_more(monkeypatch):
    monkeypatch.setattr(object_opcodes, "MAX_COPIED", 5)
    once = b"](K\1K\2K\3e\x85R"
    with pytest.raises(FormatError, match="lists of more than 5 elements"):
        pickles.parse(b"\x80\x02ccollections\nOrderedDict\nq\1" + once + b"h\1" + once + b"\x86.", "x")


# --- refusals ---


def not_plain(path, *says):
    found = torch_file.look(path)
    assert not found.findings.plain
    for text in says:
        assert text in found.findings.reason
    with pytest.raises(NotPlainError):
        torch_file.read(path)


def impossible(path, *says):
    with pytest.raises(FormatError) as caught:
        torch_legacy.look(path)
    assert not isinstance(caught.value, NotPlainError)
    for text in says:
        assert text in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (lambda: {"epoch": 3}, "its entry 'epoch' is a number"),
        (lambda: {"model": OrderedDict(x=filled((2,)))}, "not a tensor as torch saves one, but a dict"),
        (lambda: {"x": torch.zeros(2, dtype=torch.complex128)}, "complex128 tensors, which safetensors has no place"),
        (lambda: {"x": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "holds quantized tensors"),
        (lambda: {"x": torch.eye(2).to_sparse()}, "holds sparse tensors"),
    ],
)
def test_what_is_not_plain_is_looked_at(tmp_path, make, says):
    not_plain(old(make(), tmp_path / "m.pt"), says)


def test_nothing_is_called(tmp_path):
    value = {"x": Tensor(Old(4)), "y": Call(print, "called")}
    not_plain(legacy(tmp_path / "m.pt", value, {"0": FOUR}), "asks for __builtin__.print")


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (MACHINE | {"little_endian": False}, "big-endian"),
        ({"protocol_version": 1001}, "big-endian"),
        (MACHINE | {"note": "secret"}, "its header holds more"),
        (MACHINE | {"type_sizes": {"int": "secret"}}, "its header holds more"),
        (MACHINE | {"type_sizes": {"secret": 4}}, "its header holds more"),
        (MACHINE | {"type_sizes": []}, "its header holds more"),
        ([True], "its header holds more"),
        (MACHINE | {"little_endian": print}, "its header holds more"),
    ],
)
def test_the_header(tmp_path, machine, says):
    not_plain(legacy(tmp_path / "m.pt", {"x": Tensor(Old(4))}, {"0": FOUR}, machine=machine), says)


@pytest.mark.parametrize("pid", [Stored(4), Old(4, view=("9", 0)), Old(4, view=(9, 0, 1)), Old(4, view=("9", -1, 1))])
def test_storages_that_are_not_named_as_torch_names_them(tmp_path, pid):
    not_plain(legacy(tmp_path / "m.pt", {"x": Tensor(pid)}, {"0": FOUR}), "does not lie in a storage as torch saves")


@pytest.mark.parametrize(
    ("tensors", "options", "says"),
    [
        ([Tensor(Old(5))], {}, "claims that the storage '0' has 5 elements, of which the file has 4"),
        ([Tensor(Old(4))], {"counts": {"0": -4}}, "of which the file has -4"),
        ([Tensor(Old(4))], {"counts": {"0": 1 << 60}}, "of which the file has 1,152,921,504,606,846,976"),
        (
            [Tensor(Old(1 << 50))],
            {"counts": {"0": 1 << 50}},
            "the file is cut short: it has 16 of 4,503,599,627,370,496",
        ),
        ([Tensor(Old(4, key="7"))], {}, "its pickle speaks of the storage '7', which is not there"),
        ([], {}, "it lists the storage '0', of which its pickle does not speak"),
        ([Tensor(Old(4))], {"keys": ["0", "0"]}, "it lists a storage twice"),
        ([Tensor(Old(4))], {"keys": [0]}, "not a list of texts"),
        ([Tensor(Old(4))], {"keys": {"0": 1}}, "not a list of texts"),
        ([Tensor(Old(4))], {"after": b"more"}, "there are 4 bytes after its last storage"),
        ([Tensor(Old(4), 1)], {}, "'0' reaches beyond its storage of 16 bytes"),
        ([Tensor(Old(4, view=("9", 1, 3)))], {}, "'0' reaches beyond its storage of 12 bytes"),
        ([Tensor(Old(4, view=("9", 1, 4)))], {}, "a part that reaches beyond its storage"),
        ([Tensor(Old(4, view=("0", 0, 4)))], {}, "gives a storage and a part of one the same key"),
        ([Tensor(Old(4, view=("9", 0, 4))), Tensor(Old(4, view=("9", 1, 3)), 0, (1,), (1,))], {}, "in two ways"),
        ([Tensor(Old(4)), Tensor(Old(4, class_=torch.IntStorage))], {}, "describes the storage '0' in two ways"),
        ([Tensor(Old(4), 0, (1 << 40,), (0,))], {}, "repeat 16 bytes until they take"),
        ([Tensor(Old(4))], {"protocol": 1000}, "a version of PyTorch's old format other than 1001"),
        ([Tensor(Old(4))], {"magic": 5}, "the magic number"),
    ],
)
def test_lies(tmp_path, tensors, options, says):
    value = {str(index): tensor for index, tensor in enumerate(tensors)}
    impossible(legacy(tmp_path / "m.pt", value, {"0": FOUR}, **options), says)


def test_too_many_storages(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_legacy, "MAX_STORAGES", 1)
    state = {"x": filled((2,)), "y": filled((3,))}
    impossible(old(state, tmp_path / "m.pt"), "it claims 2 storages; 1 is the limit")


def test_truncation_anywhere_is_refused(tmp_path):
    path = old(OrderedDict(x=filled((5, 2)), y=filled((3,))), tmp_path / "m.pt")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FormatError) as caught:
            torch_legacy.look(path)
        assert "cut short" in str(caught.value) or "ends early" in str(caught.value) or "damaged" in str(caught.value)


def test_flipped_bits_give_what_torch_reads_or_an_error_of_ours(tmp_path):
    """There are no checksums: what can't be told from another file is read as torch reads that."""
    path = old(OrderedDict(x=filled((3,))), tmp_path / "m.pt")
    content = path.read_bytes()
    accepted = 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x24]) + content[at + 1 :])
        try:
            weights = torch_legacy.read(path).weights
        except FormatError:
            continue
        accepted += 1
        found = {info.name: bytes(copying.read_tensor(weights, info)) for info in weights.tensors}
        loaded = torch.load(path, weights_only=True, map_location="cpu")
        assert found == {name: raw(tensor) for name, tensor in loaded.items()}
    assert accepted > 12  # the values, and the name
