"""Damage of every kind to a small file: it is refused, or what comes out is provably the same. And real files."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.builders import filled, raw, saved
from metta_hub import containers
from metta_hub.containers import copying, recipe, safetensors, torch_zip
from metta_hub.errors import FormatError
from support import pairs

STATE = OrderedDict(a=filled((3, 2)), t=filled((2, 4), "bfloat16").t(), b=filled((5,), "bool"), none=torch.zeros(0))


@pytest.fixture(name="small", scope="module")
def small_file(tmp_path_factory):
    return saved(STATE, tmp_path_factory.mktemp("small") / "m.pt").read_bytes()


def mirrored(content, folder):
    """Read and convert; the values that came out, by name."""
    path = folder / "damaged.pt"
    path.write_bytes(content)
    found = torch_zip.read(path)
    safetensors.write(found.weights, folder / "out.safetensors")
    mirror = safetensors.read(folder / "out.safetensors")
    return {info.name: bytes(copying.read_tensor(mirror, info)) for info in mirror.tensors}


EXPECTED = {name: raw(tensor) for name, tensor in STATE.items()}


def test_undamaged(small, tmp_path):
    assert mirrored(small, tmp_path) == EXPECTED


def test_truncated_at_every_offset(small, tmp_path):
    path = tmp_path / "cut.pt"
    for end in range(len(small)):
        path.write_bytes(small[:end])
        with pytest.raises(FormatError):
            torch_zip.look(path)


def test_every_byte_flipped(small, tmp_path):
    """Each bit guards itself: checksums, or the strictness of the zip; what is left changes nothing."""
    accepted = 0
    for at in range(len(small)):
        content = bytearray(small)
        content[at] ^= 1 << (at % 8)
        try:
            values = mirrored(bytes(content), tmp_path)
        except FormatError:
            continue
        accepted += 1
        assert values == EXPECTED, at
    assert accepted < len(small) // 10


def test_bytes_put_in_anywhere(small, tmp_path):
    for at in range(0, len(small) + 1, 3):
        with pytest.raises(FormatError):
            mirrored(small[:at] + b"X" + small[at:], tmp_path)


@given(data=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "m.pt"
    path.write_bytes(data)
    containers.sniff(path)
    for read in (torch_zip.look, safetensors.read):
        with pytest.raises(FormatError):
            read(path)


@pytest.mark.parametrize("path", pairs(), ids=lambda path: "/".join(path.parts[-4:]))
def test_real_files(path, tmp_path):
    assert containers.sniff(path) == torch_zip.CONTAINER
    found = torch_zip.read(path)
    state = torch.load(path, weights_only=True)
    assert [info.name for info in found.weights.tensors] == list(state)
    assert found.unused_bytes == 0
    torch_zip.check_sums(path)

    mirror = tmp_path / "m.safetensors"
    written = safetensors.write(found.weights, mirror)
    assert containers.sniff(mirror) == safetensors.CONTAINER
    weights = safetensors.read(mirror)
    assert written == copying.digest(mirror)
    assert all(result.equal for result in copying.compare(found.weights, weights))
    assert {info.name: bytes(copying.read_tensor(weights, info)) for info in weights.tensors} == {
        name: raw(tensor) for name, tensor in state.items()
    }

    small = recipe.make(found, copying.digest(path))
    assert recipe.worthwhile(len(small), path.stat().st_size)
    assert recipe.restore(small, weights, tmp_path / "back.pt") == copying.digest(path)
    assert recipe.look(small, "r").pickle == found.pickle

    torch_zip.write(weights, tmp_path / "rebuilt.pt", archive_name="m")
    rebuilt = torch.load(tmp_path / "rebuilt.pt", weights_only=True)
    assert all(raw(rebuilt[name]) == raw(tensor) for name, tensor in state.items())
