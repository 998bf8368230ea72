"""Every mutation of a valid file gives a right answer or an error of ours: quickly, and in little memory.

What reads the files is a process of its own (`limited`), so a crash, a hang or a bomb fails the test that caused it.
A right answer is what torch, safetensors or Python's json make of the same bytes; or, where they refuse them, what the
undamaged file holds.
"""

import bz2
import json
import struct
from collections import OrderedDict
from dataclasses import fields

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from containers.builders import (
    Call,
    Entry,
    Stored,
    Tensor,
    build_zip,
    filled,
    legacy_stream,
    packed,
    pickled,
    torch_entries,
)
from containers.builders import (
    by_safetensors as safetensors_file,
)
from properties import samples
from properties.mutations import mutations
from properties.oracles import TwiceError, by_json, by_safetensors, by_torch, differences
from properties.strategies import documents, often
from support import DATA


def original(kind, folder):
    path = folder / "original"
    path.write_bytes(samples.sample(kind))
    return by_safetensors(path) if kind == "safetensors" else by_torch(path)


def assert_right(content, undamaged, folder, limited):
    """The process refuses a file, or reads from it what others read, or what was in it before."""
    path = folder / "damaged"
    path.write_bytes(content)
    answer = limited.ask("weights", path)
    limited.ask("inspect", path)
    if "refused" in answer:
        return
    ours = answer["tensors"]
    if content[8:9] == b"{":
        ours, theirs = sorted(ours), by_safetensors(path)
    else:
        theirs = by_torch(path)
    assert ours == (undamaged if theirs is None else theirs)


@pytest.mark.parametrize("kind", samples.KINDS)
@given(data=st.data())
@often(120)
def test_a_damaged_file(folder, limited, kind, data):
    content = data.draw(mutations(samples.sample(kind)))
    assert_right(content, original(kind, folder), folder, limited)


@given(data=st.data())
@often(60)
def test_a_file_with_pieces_of_others(folder, limited, data):
    kinds = st.sampled_from(samples.KINDS)
    one, other = data.draw(kinds), data.draw(kinds)
    first, second = samples.sample(one), samples.sample(other)
    cut, start = data.draw(st.integers(0, len(first))), data.draw(st.integers(0, len(second)))
    rest = second[start : start + data.draw(st.integers(0, len(second)))]
    content = first[:cut] + rest + first[cut + data.draw(st.sampled_from([0, len(rest)])) :]
    assert_right(content, original(one, folder), folder, limited)


@pytest.mark.parametrize("how", ["stored", "deflated"])
@given(data=st.data())
@often(120)
def test_a_damaged_pickle_in_a_zip_that_fits_it(folder, limited, how, data):
    """Checksums and sizes are right: the pickle is all that there is to notice it by."""
    entries = []
    for name, content in samples.members().items():
        changed = data.draw(mutations(content)) if name.endswith("/data.pkl") else content
        entries.append(Entry(name, changed, flags=0x0808 if changed else 0x0800))
    path = folder / "built.pt"
    path.write_bytes(build_zip(entries))
    content = path.read_bytes() if how == "stored" else packed(path, folder / "packed.pt").read_bytes()
    assert_right(content, original("zip", folder), folder, limited)


_LIES = {
    "crc": st.sampled_from([0, 1, 0xFFFFFFFF]),
    "size": st.sampled_from([0, 1, 15, 17, 32, 0xFFFFFFFF]),
    "flags": st.sampled_from([0, 1, 8, 0x0800, 0x0808, 0x2000]),
    "method": st.sampled_from([0, 8, 12, 99]),
    "local_name": st.sampled_from(["archive/data/1", "archive/data.pkl", "x", "archive/data/0/"]),
    "local_flags": st.sampled_from([0, 8, 0x0800, 0x0808]),
    "local_sizes": st.tuples(*[st.sampled_from([0, 16, 0xFFFFFFFF])] * 3),
    "extra": st.sampled_from([b"", b"FB\0\0", b"\1\0\10\0" + bytes(8), b"\1\0\20\0" + struct.pack("<QQ", 16, 16)]),
    "central_extra": st.sampled_from(
        [b"\1\0\10\0" + bytes(8), b"FB\0\0", b"\1\0\x18\0" + struct.pack("<QQQ", 16, 16, 0)]
    ),
    "descriptor": st.sampled_from([b"", b"PK\7\x08" + bytes(12), b"PK\7\x08" + bytes(20)]),
    "after": st.sampled_from([b"X", b"PK\3\4" + bytes(26)]),
    "offset": st.sampled_from([0, 1, 64, 0xFFFFFFFF]),
    "hidden": st.just(True),
    "comment": st.just(b"hello"),
}


@given(data=st.data())
@often(150)
def test_a_zip_whose_records_lie(folder, limited, data):
    """One member, or the whole archive, says what is not so; some of it is true all the same, or means nothing."""
    contents = {"0": bytes(range(16)), "1": bytes(range(8)), "2": b""}
    tensors = {
        "x": Tensor(Stored(4)),
        "y": Tensor(Stored(2, "1"), 0, (2,), (1,)),
        "z": Tensor(Stored(0, "2"), 0, (0,), (1,)),
    }
    entries = torch_entries(pickled(tensors), contents, byteorder=b"little")
    folder.joinpath("original").write_bytes(build_zip(entries))
    undamaged = by_torch(folder / "original")
    assert set(_LIES) <= {field.name for field in fields(Entry)}
    for _ in range(data.draw(st.integers(0, 2))):
        entry = data.draw(st.sampled_from(entries))
        lie = data.draw(st.sampled_from(sorted(_LIES)))
        setattr(entry, lie, data.draw(_LIES[lie]))
    if data.draw(st.booleans()):
        entries.append(data.draw(st.sampled_from(entries)))
    if data.draw(st.booleans()):
        entries = data.draw(st.permutations(entries))
    about = {
        "before": data.draw(st.sampled_from([b"", b"", b"", b"X"])),
        "after": data.draw(st.sampled_from([b"", b"", b"", b"X", b"PK\5\6" + bytes(18)])),
        "comment": data.draw(st.sampled_from([b"", b"", b"", b"hello"])),
        "count": data.draw(st.sampled_from([None, None, None, 1, 0xFFFF])),
    }
    assert_right(build_zip(entries, **about), undamaged, folder, limited)


_CLASSES = {torch.FloatStorage: 4, torch.HalfStorage: 2, torch.BoolStorage: 1, torch.storage.UntypedStorage: 1}
_SIZES = {"0": 16, "1": 8, "2": 0}
_SMALL = st.sampled_from([0, 1, 1, 1, 2, 2, 3, 4, 5, -1])
_RESTS = st.sampled_from([(torch.float32,), (torch.uint16,), ({"neg": True},), ({},), (None,), (1,), (None, None)])


def _lies(draw):
    return draw(st.integers(0, 9)) == 9


@st.composite
def _claims(draw, view):
    """A tensor as a pickle may claim one over storages of 16, 8 and no bytes; mostly what torch would write."""
    # Of storages without a dtype torch reads none in a stream of before 1.6.
    class_, key = draw(st.sampled_from(list(_CLASSES)[: 3 if view else 4])), draw(st.sampled_from(list(_SIZES)))
    count = draw(_SMALL) if _lies(draw) else _SIZES[key] // _CLASSES[class_]
    storage = Stored(count, key, class_, draw(st.sampled_from(["cpu", "cpu", "cuda:0"])))
    if view:
        part = ("9", draw(_SMALL), draw(_SMALL)) if _lies(draw) or _lies(draw) else None
        storage.pid = (*storage.pid, part)
    dims = draw(st.integers(0, 3))
    shape, stride = (tuple(draw(_SMALL) for _ in range(dims)) for _ in range(2))
    if draw(st.integers(0, 5)) == 0:
        return Call(torch._utils._rebuild_tensor, storage, draw(_SMALL), shape, stride)
    new = class_ is torch.storage.UntypedStorage
    function = torch._utils._rebuild_tensor_v3 if new is not _lies(draw) else torch._utils._rebuild_tensor_v2
    rest = draw(_RESTS) if _lies(draw) else (draw(st.sampled_from([torch.uint16, torch.float8_e5m2])),) * new
    tensor = Tensor(storage, draw(_SMALL), shape, stride, *rest, function=function)
    if draw(st.integers(0, 4)) == 0:
        return Call(torch._utils._rebuild_parameter, tensor, draw(st.booleans()), OrderedDict())
    return tensor


@pytest.mark.parametrize("container", ["zip", "legacy"])
@given(data=st.data())
@often(200)
def test_a_pickle_that_claims_what_it_likes(folder, limited, container, data):
    """Files that no program has written: shapes, strides, offsets, dtypes and storages that may or may not fit."""
    tensors = data.draw(st.dictionaries(st.sampled_from("abc"), _claims(container == "legacy"), min_size=1, max_size=3))
    contents = {"0": bytes(range(0, 160, 10)), "1": bytes(range(8)), "2": b""}
    value = OrderedDict(tensors) if data.draw(st.booleans()) else tensors
    if container == "zip":
        content = build_zip(torch_entries(pickled(value), contents, byteorder=b"little"))
    else:
        used = sorted({pid[2] for pid in _pids(value)})
        counts = {pid[2]: pid[4] for pid in _pids(value)}
        content = legacy_stream(value, {key: contents[key] for key in used}, counts=counts)
    assert_right(content, None, folder, limited)


def _pids(value):
    """What the storages in a claim are called."""
    if isinstance(value, Stored):
        yield value.pid
    elif isinstance(value, dict):
        for item in value.values():
            yield from _pids(item)
    elif isinstance(value, Tensor | Call):
        for item in value.reduced[1]:
            yield from _pids(item)


@given(data=st.data())
@often(120)
def test_a_damaged_safetensors_header_of_the_right_length(folder, limited, data):
    content = samples.sample("safetensors")
    length = int.from_bytes(content[:8], "little")
    header = data.draw(mutations(content[8 : 8 + length].rstrip()))
    assert_right(
        struct.pack("<Q", len(header)) + header + content[8 + length :],
        original("safetensors", folder),
        folder,
        limited,
    )


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@given(data=st.data())
@often(80)
def test_a_damaged_recipe_or_mirror(folder, limited, kind, data):
    """What comes out has the sha256 of the original, or nothing does."""
    small, mirror, sha256 = samples.recipe_and_mirror(kind)
    how = data.draw(st.sampled_from(["recipe", "body", "body", "mirror"]))
    if how == "recipe":
        small = data.draw(mutations(small))
    elif how == "mirror":
        mirror = data.draw(mutations(mirror))
    else:
        body = data.draw(mutations(bz2.decompress(small[56:])))
        head = struct.unpack_from("<8sQQ32s", small)
        small = struct.pack("<8sQQ32s", head[0], head[1], len(body), head[3]) + bz2.compress(body)
    folder.joinpath("damaged.recipe").write_bytes(small)
    folder.joinpath("mirror").write_bytes(mirror)
    answer = limited.ask("recipe", folder / "damaged.recipe", folder / "mirror")
    assert "refused" in answer or answer["sha256"] == sha256


# --- documents ---


def said_of(content, answer):
    """What a document says, for one that was taken; None for a refused one, as those that are no JSON must be."""
    try:
        said = by_json(content)
    except (ValueError, TwiceError, RecursionError):
        assert "refused" in answer
        return None
    if "refused" in answer:
        return None
    assert answer["again"]
    return said


def assert_metadata_right(content, folder, limited):
    """Every value is the text's, or listed as repaired with what the text says; or the whole is refused."""
    path = folder / "m.json"
    path.write_bytes(content)
    answer = limited.ask("metadata", path)
    said = said_of(content, answer)
    if said is None:
        return
    block = said.pop("metta_hub", None)
    repaired = {pointer for pointer, _ in answer["repairs"]}
    assert list(differences(answer["values"], said, repaired)) == []
    if answer["block"]:
        assert list(differences(answer["block"], block, repaired, "/metta_hub")) == []
    else:
        assert list(differences(answer["foreign"], block, repaired, "/metta_hub")) == []


@given(data=st.data())
@often(200)
def test_damaged_metadata(folder, limited, data):
    assert_metadata_right(data.draw(mutations(samples.document())), folder, limited)


@given(documents)
@often(150)
def test_any_metadata(folder, limited, values):
    assert_metadata_right(json.dumps(values).encode(), folder, limited)


@given(data=st.data())
@often(200)
def test_a_damaged_index(folder, limited, data):
    content = data.draw(mutations(samples.index()))
    folder.joinpath("index.json").write_bytes(content)
    answer = limited.ask("index", folder / "index.json")
    said = said_of(content, answer)
    if said is None:
        return
    assert answer["root"] == said.get("root")
    listed = {entry["name"]: entry for entry in said["checkpoints"]}
    assert len(listed) == len(answer["entries"]) == len(said["checkpoints"])
    for entry in answer["entries"]:
        told = listed[entry["name"]]
        for key in ("parameters", "published_at"):
            assert entry[key] == told[key]
        for key in ("epoch", "agent_step"):
            assert entry[key] == (told.get(key) if type(told.get(key)) is int else None)
        for key in ("score", "avg_reward", "reward_sem"):
            number = told.get(key)
            assert entry[key] == (number if type(number) in {int, float} else None)
        files = {path: {"size": of["size"], "sha256": of["sha256"]} for path, of in told["files"].items()}
        assert entry["files"] == files


@given(data=st.data())
@often(100)
def test_a_damaged_config(folder, limited, data):
    content = data.draw(mutations(samples.config()))
    folder.joinpath("config.json").write_bytes(content)
    answer = limited.ask("config", folder / "config.json")
    assert answer == {"intact": content == samples.config()}


# --- folders ---


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A repo folder of two small checkpoints, as `hf download` leaves it, and the tensors of its root."""
    from huggingface_hub import snapshot_download

    import metta_hub

    here = tmp_path_factory.mktemp("published")
    for name in ("model_0001", "model_0002"):
        state = samples.state() | {"more": filled((40, 40), seed=len(name))}
        torch.save(state, here / f"{name}.pt")
        here.joinpath(f"{name}.json").write_bytes(samples.document())
        metta_hub.push(here / f"{name}.pt", "org/properties")
    folder = here / "repo"
    snapshot_download("org/properties", local_dir=folder)
    tensors = by_torch(folder / "model_0002.pt")
    contents = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: content for path, content in contents.items() if path.parts[0] != ".cache"}, tensors


@given(data=st.data())
@often(40)
def test_a_damaged_repo_folder(published, limited, tmp_path_factory, data):
    """One file is another: `verify` says so, whichever; and what is read is refused or the root's own tensors."""
    contents, tensors = published
    path = data.draw(st.sampled_from(sorted(path for path in contents if path.name != ".gitattributes")))
    damaged = data.draw(mutations(contents[path]) | st.sampled_from(sorted(contents.values())) | st.none())
    assume(damaged != contents[path])
    folder = tmp_path_factory.mktemp("repo")
    for name, content in (contents | {path: damaged}).items():
        if content is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    answer = limited.ask("repo", folder)
    assert "refused" in answer or not answer["ok"]
    read = answer.get("tensors", "refused")
    assert type(read) is str or sorted(read) == sorted(tensors)


@given(data=st.data())
@often(60)
def test_damaged_shards(folder, limited, data):
    """Of sharded safetensors the index or a shard: what is read is what the shards hold that it names."""
    state = {"a": filled((3, 2)), "b": filled((5,), "bfloat16"), "c": filled((2,), "int64")}
    index = {"metadata": {"total_size": 50}, "weight_map": {name: f"model-{name}.safetensors" for name in state}}
    contents = {"model.safetensors.index.json": json.dumps(index).encode()}
    for name, tensor in state.items():
        path = safetensors_file({name: tensor}, folder / f"model-{name}.safetensors")
        contents[path.name] = path.read_bytes()
    damaged = data.draw(st.sampled_from(sorted(contents)))
    folder.joinpath(damaged).write_bytes(data.draw(mutations(contents[damaged])))
    if damaged != "model.safetensors.index.json":
        folder.joinpath("model.safetensors.index.json").write_bytes(contents["model.safetensors.index.json"])
    answer = limited.ask("sharded", folder / "model.safetensors.index.json")
    if "refused" in answer:
        return
    shards = set(json.loads(folder.joinpath("model.safetensors.index.json").read_bytes())["weight_map"].values())
    held = [tensor for shard in shards for tensor in by_safetensors(folder / shard)]
    assert sorted(answer["tensors"]) == sorted(held)


# --- what is not damaged ---


@pytest.mark.parametrize("kind", samples.KINDS)
def test_the_samples_themselves_are_read(folder, limited, kind):
    path = folder / "sample"
    path.write_bytes(samples.sample(kind))
    assert sorted(limited.ask("weights", path)["tensors"]) == sorted(original(kind, folder))


def test_the_process_is_limited(folder, limited):
    """A bomb of 1 GiB does not fit into what it has, and an answer comes all the same."""
    with pytest.raises(AssertionError, match="MemoryError"):
        limited.ask("bomb", folder)
    assert limited.ask("config", DATA / "README.md") == {"intact": False}
