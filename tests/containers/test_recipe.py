"""Recipes: the exact `.pt` comes back from the mirror, and a stranger's recipe does no harm."""

import bz2
import json
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from containers.builders import filled, saved
from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers import copying, recipe, safetensors, torch_zip
from metta_hub.errors import ChecksumError, FormatError


def everything():
    base = filled((300, 40))
    state = OrderedDict(
        base=base,
        tied=base.detach(),
        inside=base[3],
        steps=filled((40, 60))[:, ::2],
        turned=filled((30, 40)).t(),
        part=filled((100, 10))[20:50],
        none=torch.zeros(0),
        scalar=filled(()),
        half=filled((50, 50), "bfloat16"),
    )
    state["overlapping"] = base.reshape(-1)[5000:12000]
    return state


def made(state, folder, **options):
    path = saved(state, folder / "model.pt", **options)
    found = torch_zip.read(path)
    safetensors.write(found.weights, folder / "model.safetensors")
    return path, recipe.make(found, copying.digest(path)), safetensors.read(folder / "model.safetensors")


def assert_restored(path, made_recipe, mirror, folder):
    written = recipe.restore(made_recipe, mirror, folder / "restored.pt")
    assert written == copying.digest(path)
    assert (folder / "restored.pt").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_exact_file_comes_back(tmp_path, protocol):
    path, small, mirror = made(everything(), tmp_path, pickle_protocol=protocol)
    path_twin = torch_zip.read(path)
    assert_restored(path, small, mirror, tmp_path)
    looked = recipe.look(small, "m.recipe")
    assert (looked.size, looked.sha256) == (path.stat().st_size, copying.digest(path).sha256)
    assert looked.pickle == path_twin.pickle
    assert torch_zip.judge_pickle(looked.pickle).plain
    assert small == recipe.make(path_twin, copying.digest(path))


def test_the_original_itself_will_do_as_a_mirror(tmp_path):
    path, small, _ = made({"x": filled((10, 10))}, tmp_path)
    assert_restored(path, small, torch_zip.read(path).weights, tmp_path)


def test_recipes_of_real_sizes_are_small(tmp_path):
    state = OrderedDict({f"layer.{index}.weight": filled((100, 200), seed=index) for index in range(12)})
    path, small, _ = made(state, tmp_path)
    assert len(small) < 3000
    assert recipe.worthwhile(len(small), path.stat().st_size)


def test_what_is_worthwhile():
    assert recipe.worthwhile(100, 1000)
    assert not recipe.worthwhile(101, 1000)
    assert not recipe.worthwhile(0, 1000)


def test_a_file_of_little_else_gets_none(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "MAX_BODY", 5000)
    _, small, _ = made({"x": filled((50, 50)).t()}, tmp_path)
    assert small == b""


# --- hostile recipes ---


def unpacked(small):
    _, size, _, sha256 = struct.unpack_from("<8sQQ32s", small)
    line, _, literals = bz2.decompress(small[56:]).partition(b"\n")
    return json.loads(line), literals, size, sha256


def packed(segments, literals, size, sha256, *, magic=b"METTAHR\x01", length=None):
    line = segments if isinstance(segments, bytes) else json.dumps(segments, separators=(",", ":")).encode()
    body = line + b"\n" + literals
    return struct.pack("<8sQQ32s", magic, size, len(body) if length is None else length, sha256) + bz2.compress(body)


@pytest.fixture(name="whole")
def whole_recipe(tmp_path):
    return made({"x": filled((10, 10)), "y": filled((100,), seed=1)}, tmp_path)


def refused(small, mirror, folder, says):
    with pytest.raises(FormatError) as caught:
        recipe.restore(small, mirror, folder / "out.pt", "m.recipe")
    assert says in str(caught.value)


def test_a_recipe_can_be_taken_apart(whole, tmp_path):
    path, small, mirror = whole
    assert packed(*unpacked(small)) == small
    assert_restored(path, packed(*unpacked(small)), mirror, tmp_path)


def test_what_is_refused(whole, tmp_path):
    _, small, mirror = whole
    segments, literals, size, sha256 = unpacked(small)
    (at,) = [index for index, segment in enumerate(segments) if type(segment) is list and segment[0] == "x"]

    def changed(replacement, **more):
        return packed([*segments[:at], replacement, *segments[at + 1 :]], literals, size, sha256, **more)

    for bad, says in (
        (b"", "not a recipe"),
        (b"METTAHR\x01", "not a recipe"),
        (b"PK\3\4" + small[4:], "not a recipe"),
        (packed(segments, literals, size, sha256, magic=b"METTAHR\x02"), "a recipe of version 2"),
        (packed(segments, literals, size, sha256, length=1 << 40), "its body claims 1,099,511,627,776 bytes"),
        (packed(segments, literals, size, sha256, length=5), "not the 5 bytes that it claims"),
        (packed(segments, literals, size, sha256, length=1 << 20), "not the 1,048,576 bytes that it claims"),
        (small + b"more", "not the"),
        (small[:-5], "not the"),
        (small[:60] + b"\0\0\0" + small[63:], "its body is damaged"),
        (packed(b"[" * 100_000, literals, size, sha256), "damaged"),
        (packed(b"{}", literals, size, sha256), "damaged"),
        (packed(b"nonsense", literals, size, sha256), "damaged"),
        (changed(0), "damaged"),
        (changed(-5), "damaged"),
        (changed(True), "damaged"),
        (changed(1 << 70), "damaged"),
        (changed(["x", 0]), "damaged"),
        (changed(["x", -4, 400]), "damaged"),
        (changed(["x", 0, 0]), "damaged"),
        (changed(["x", 0.0, 400]), "damaged"),
        (changed([3, 0, 400]), "damaged"),
        (changed(["x", 0, 399]), "do not add up"),
        (changed(["x", 0, 1 << 60]), "do not add up"),
        (changed(400), "not as many as its segments name"),
        (packed(segments, literals + b"1", size, sha256), "not as many as its segments name"),
        (packed(segments, literals, size + 1, sha256), "do not add up"),
        (changed(["z", 0, 400]), "needs the tensor 'z', which the mirror does not have"),
        (changed(["x", 4, 400]), "needs more of the tensor 'x' than the mirror has"),
        (changed(["y", 4, 400]), "needs more of the tensor 'y' than the mirror has"),
        (changed(["y", 0, 400]), "the sha256 differs"),
        (packed(segments, literals, size, bytes(32)), "the sha256 differs"),
        (packed(segments, literals[:-22] + bytes(22), size, sha256), "not a zip archive"),
    ):
        if says == "not a zip archive":
            with pytest.raises(FormatError):
                recipe.look(bad, "m.recipe")
        else:
            refused(bad, mirror, tmp_path, says)


def test_a_bomb_is_refused_before_it_grows(whole, tmp_path):
    _, _, mirror = whole
    bomb = struct.pack("<8sQQ32s", b"METTAHR\x01", 1, 100, bytes(32)) + bz2.compress(bytes(100 << 20))
    refused(bomb, mirror, tmp_path, "not the 100 bytes that it claims")


def test_too_many_segments(whole, tmp_path, monkeypatch):
    _, small, mirror = whole
    monkeypatch.setattr(recipe, "MAX_SEGMENTS", 1)
    refused(small, mirror, tmp_path, "more than 1 segments")


def test_a_changed_mirror_is_found_out(whole, tmp_path):
    path, small, mirror = whole
    place = mirror.storages["x"]
    content = bytearray(place.path.read_bytes())
    content[place.offset] ^= 1
    place.path.write_bytes(content)
    with pytest.raises(ChecksumError, match="the sha256 differs"):
        recipe.restore(small, mirror, tmp_path / "out.pt")
    assert path.exists()


def test_a_mirror_with_gaps_is_refused(whole, tmp_path):
    _, small, mirror = whole
    strided = TensorInfo("x", "F32", (10, 10), (1, 10), "x", 0)
    weights = Weights((strided, mirror.by_name["y"]), {**mirror.storages, "x": Storage(Path("none"), 0, 400)})
    refused(small, weights, tmp_path, "more of the tensor 'x'")


def test_the_pickle_is_the_one_of_the_file(whole):
    """Wherever a stranger says it is: the zip's own directory decides, and only literal bytes are believed."""
    _, small, _ = whole
    segments, literals, size, sha256 = unpacked(small)
    hidden = literals.replace(b"data.pkl", b"data.pkx")
    with pytest.raises(FormatError, match=r"no data\.pkl"):
        recipe.look(packed(segments, hidden, size, sha256), "m.recipe")
    shorter = [*segments[:1], segments[1], *segments[2:]]
    shorter[0] -= 400
    shorter.insert(1, ["x", 0, 400])
    with pytest.raises(FormatError):
        recipe.look(packed(shorter, literals[:-400], size, sha256), "m.recipe")


def test_the_format_is_kept(tmp_path):
    """A recipe of version 1 as it was first written. It must give its file back for ever."""
    kept = Path(__file__).parent / "recipe-1"
    weights = safetensors.read(kept.with_suffix(".safetensors"))
    written = recipe.restore(kept.with_suffix(".recipe").read_bytes(), weights, tmp_path / "out.pt")
    assert written.sha256 == recipe.look(kept.with_suffix(".recipe").read_bytes(), kept).sha256
    loaded = torch.load(tmp_path / "out.pt", weights_only=True)
    assert loaded["weight"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
