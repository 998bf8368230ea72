"""Negated and conjugated views: torch marks them and leaves their bytes alone; a mirror has to have the values."""

from collections import OrderedDict

import pytest
import torch

from containers.builders import assert_same, filled, packed, saved
from metta_hub.containers import copying, recipe, safetensors, torch_file, torch_zip
from metta_hub.errors import FormatError


def marked_views():
    # Numbers other than 0 only: of a complex 0 torch makes +0, of a complex NaN another one.
    real, complex_ = filled((4, 6)), torch.arange(1.0, 49.0).view(torch.complex64).reshape(4, 6)
    state = OrderedDict(
        real=real, complex=complex_, conj=complex_.conj(), imag=filled((4, 6), "complex64", seed=1).conj().imag
    )
    state.update({dtype: torch._neg_view(filled((4, 6), dtype)) for dtype in ("float16", "bfloat16", "float64")})
    state.update(neg=torch._neg_view(real), again=torch._neg_view(real), both=torch._neg_view(complex_.conj()))
    state.update(turned=torch._neg_view(real).t(), negated=torch._neg_view(complex_), part=complex_.conj()[1:, ::2])
    state.update(scalar=torch._neg_view(filled(())), none=torch._neg_view(torch.zeros(0)))
    return state


@pytest.mark.parametrize("how", ["zip", "deflated", "legacy"])
def test_negated_and_conjugated_views_are_resolved(tmp_path, how):
    state = marked_views()
    path = saved(state, tmp_path / "m.pt", _use_new_zipfile_serialization=how != "legacy")
    found = torch_file.read(packed(path, tmp_path / "p.pt") if how == "deflated" else path)
    resolved = OrderedDict((name, tensor.resolve_conj().resolve_neg()) for name, tensor in state.items())
    assert_same(resolved, found.weights, copying.read_tensor)
    assert found.weights.tied == (("neg", "again"),)
    safetensors.write(found.weights, tmp_path / "m.safetensors")
    assert all(r.equal for r in copying.compare(found.weights, safetensors.read(tmp_path / "m.safetensors")))
    small = recipe.make(found, copying.digest(path))
    if how != "deflated":
        recipe.restore(small, safetensors.read(tmp_path / "m.safetensors"), tmp_path / "out.pt")
        assert (tmp_path / "out.pt").read_bytes() == path.read_bytes()
    with pytest.raises(FormatError, match="negated or conjugated view, which is not written"):
        torch_zip.write(found.weights, tmp_path / "out.pt", archive_name="m")
