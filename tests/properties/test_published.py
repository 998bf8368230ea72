"""Whatever is published comes back: any state dict in any of torch's containers, with any metadata."""

import json
import uuid

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import metta_hub
from metta_hub.errors import MetadataError
from properties.oracles import by_torch
from properties.strategies import documents, often, torch_files


@given(st.data(), documents)
@often(8)
def test_a_pair_comes_back_bit_for_bit_also_when_another_became_the_root(folder, data, values):
    _, path = data.draw(torch_files(folder))
    source, repo_id = folder / "push", f"org/{uuid.uuid4().hex}"
    source.mkdir(exist_ok=True)
    source.joinpath("m.pt").write_bytes(path.read_bytes())
    source.joinpath("m.json").write_text(json.dumps(values))
    torch.save({"x": torch.zeros(3)}, source / "other.pt")
    try:
        pushed = metta_hub.push(source / "m.pt", repo_id)
    except MetadataError:
        assume(False)
    assert metta_hub.push(source / "m.pt", repo_id).changed is False
    target = folder / repo_id
    first = metta_hub.pull(repo_id, target / "first")
    assert first.pt.read_bytes() == path.read_bytes()
    assert metta_hub.push(first.pt, repo_id).commit == pushed.commit
    metta_hub.push(source / "other.pt", repo_id, replace=True)
    second = metta_hub.pull(f"{repo_id}:m", target / "second")
    assert second.pt.read_bytes() == path.read_bytes()
    assert kept(second) == kept(first)
    rebuilt = metta_hub.pull(f"{repo_id}:m", target / "rebuilt", rebuild=True)
    read = {tensor.name: (tensor.dtype, list(tensor.shape)) for tensor in metta_hub.inspect(path).tensors}
    assert {name: (dtype, shape) for name, dtype, shape, _ in by_torch(rebuilt.pt)} == read
    assert metta_hub.verify(repo_id).ok
    assert metta_hub.verify(source / "m.pt", f"{repo_id}:m").checks[0].ok


def kept(pair):
    """The metadata but for the place of the file."""
    values = json.loads(pair.json.read_text())
    return {key: value for key, value in values.items() if key != "uri"}
