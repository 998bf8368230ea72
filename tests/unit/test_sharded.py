"""Sharded safetensors: one table over several files, and every disagreement of index and files refused."""

import json
from collections import OrderedDict

import pytest

from containers.builders import assert_same, by_safetensors, filled, raw
from metta_hub import formats
from metta_hub.containers import copying
from metta_hub.errors import FormatError
from metta_hub.formats import sharded

STATE = OrderedDict(a=filled((3, 4)), b=filled((5,), "bfloat16"), c=filled((2, 2), "int64"), d=filled((0,)))
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
MAP = {"a": ONE, "b": TWO, "c": ONE, "d": TWO}


@pytest.fixture
def folder(tmp_path):
    for name in (ONE, TWO):
        by_safetensors({key: STATE[key] for key, shard in MAP.items() if shard == name}, tmp_path / name)
    write(tmp_path, MAP)
    return tmp_path


def write(folder, weight_map, name="model.safetensors.index.json"):
    document = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / name).write_text(json.dumps(document))
    return folder / name


def refused(path, *says):
    with pytest.raises(FormatError) as caught:
        formats.read(path)
    for text in says:
        assert text in str(caught.value)


@pytest.mark.parametrize("named", ["folder", "index"])
def test_one_table_over_several_files(folder, named):
    index = folder / "model.safetensors.index.json"
    found = formats.read(folder if named == "folder" else index)
    assert (found.name, found.origin.format, found.origin.container) == ("model", "sharded safetensors", "safetensors")
    assert set(found.origin.sources) == {index, folder / ONE, folder / TWO}
    order = {info.name: STATE[info.name] for info in found.weights.tensors}
    assert_same(order, found.weights, copying.read_tensor)
    assert {key: raw(tensor) for key, tensor in order.items()} == {key: raw(tensor) for key, tensor in STATE.items()}


def test_the_epoch_in_the_name(folder):
    (folder / "model.safetensors.index.json").rename(folder / "nav_0040.safetensors.index.json")
    found = formats.read(folder)
    assert (found.name, found.metadata.values["epoch"]) == ("nav_0040", 40)


def test_two_indexes_are_ambiguous(folder):
    write(folder, MAP, "other.safetensors.index.json")
    refused(folder, "nor one sharded checkpoint")
    assert formats.read(folder / "other.safetensors.index.json").name == "other"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"b": ONE}, f"'{TWO}' holds the tensor 'b', but the index places it in '{ONE}'"),
        ({"e": ONE}, f"places the tensor 'e' in '{ONE}', which does not hold it"),
        ({"a": "model-3.safetensors"}, "lists the file 'model-3.safetensors', which is not beside it"),
        ({"a": "../model.safetensors"}, "not in a .safetensors file beside it"),
        ({"a": "/etc/x.safetensors"}, "not in a .safetensors file beside it"),
        ({"a": "sub/x.safetensors"}, "not in a .safetensors file beside it"),
        ({"a": ".safetensors"}, "not in a .safetensors file beside it"),
        ({"a": "model.pt"}, "not in a .safetensors file beside it"),
        ({"a": 3}, "not in a .safetensors file beside it"),
    ],
)
def test_an_index_that_says_something_else(folder, change, says):
    write(folder, MAP | change)
    refused(folder, says)


def test_a_tensor_that_the_index_does_not_list(folder):
    write(folder, {key: shard for key, shard in MAP.items() if key != "c"})
    refused(folder, f"'{ONE}' holds the tensor 'c', but the index does not list it")


def test_a_tensor_in_two_files(folder):
    by_safetensors({"b": STATE["b"], "d": STATE["d"], "a": STATE["a"]}, folder / TWO)
    refused(folder, f"'{TWO}' holds the tensor 'a', but the index places it in '{ONE}'")


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "nonsense"])
def test_what_is_no_index(folder, content):
    (folder / "model.safetensors.index.json").write_text(content)
    refused(folder, "model.safetensors.index.json")


def test_a_truncated_file(folder):
    content = (folder / ONE).read_bytes()
    (folder / ONE).write_bytes(content[:-1])
    refused(folder, ONE, "incomplete")


def test_limits(folder, monkeypatch):
    monkeypatch.setattr(sharded, "MAX_SHARDS", 1)
    refused(folder, "lists 2 files; 1 is the limit")
