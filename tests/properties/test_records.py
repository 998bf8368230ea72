"""Whole pickled policies of every era: what is read is what the module and the metadata were, bit for bit."""

import struct
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import metta_hub
from containers.builders import Entry, assert_same, build_zip, filled, raw
from metta_hub import errors, formats
from metta_hub.containers import copying
from properties import old_files, samples
from properties.mutations import mutations
from properties.strategies import often


@given(data=st.data())
@often(40)
@pytest.mark.parametrize("era", old_files.ERAS)
def test_what_was_pickled_is_read_and_migrated(folder, era, data):
    agent, metadata = data.draw(old_files.agents()), {"epoch": 7, "mine": data.draw(old_files.metadata_values)}
    path = folder / "model_0007.pt"
    old_files.pickled(era, agent, metadata, path)
    state = agent.state_dict()
    if not state:
        with pytest.raises(errors.FormatError, match="no weights"):
            formats.read(path)
        return
    found = formats.read(path)
    assert_same(state, found.weights, copying.read_tensor)
    if era != "bare":
        assert found.metadata.values["epoch"] == 7
        assert_equal(found.metadata.values["mine"], old_files.as_json(metadata["mine"]))
    [item] = metta_hub.migrate(path, output=folder / "migrated").migrated
    assert item.stripped == (("module.",) if era == "distributed" else ())
    loaded = torch.load(item.target, weights_only=True)
    assert [(name, raw(tensor)) for name, tensor in loaded.items()] == [(name, raw(state[name])) for name in state]
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in loaded.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in state.items()
    }
    item.target.unlink()
    item.target.with_suffix(".json").unlink()
    assert metta_hub.migrate(path, replace=True, backup=False).failed == ()
    assert metta_hub.verify(path).ok
    path.with_suffix(".json").unlink()


def assert_equal(ours, theirs):
    """The same values of the same types: 1 is neither 1.0 nor True, and 0.0 is not -0.0."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key, item in ours.items():
            assert_equal(item, theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_equal(one, other)
    elif isinstance(ours, float):
        assert struct.pack("d", ours) == struct.pack("d", theirs)
    else:
        assert ours == theirs


# --- damaged ---


@cache
def _sample():
    """The bytes of a record, and its members."""
    agent = old_files.AGENT()
    agent.hidden_size, agent.action_names = 4, ["move", "turn"]
    core = old_files.LAYERS[1]()
    core.weight = torch.nn.Parameter(filled((4, 3)))
    core.register_buffer("scale", filled((3,), "bfloat16"))
    core.register_buffer("gone", filled((2,)), persistent=False)
    core._sources, core._nn_params, core.hidden_size = None, {"out": 4}, 4
    agent.components = torch.nn.ModuleDict({"_core_": core})
    evals = {"a": torch.arange(9.0)[2:5], "b": {1, 2}}
    metadata = {"epoch": 7, "agent_step": 9, "evals": evals, "mine": [1, (2.5, None)]}
    return samples.saved(lambda path: old_files.pickled("July", agent, metadata, path))


@given(data=st.data())
@often(80)
def test_a_damaged_record_is_refused_or_read_as_it_was(folder, limited, data):
    """Checksums are there: what is read all the same is what was written."""
    path = folder / "model_0007.pt"
    path.write_bytes(_sample())
    undamaged = limited.ask("record", path)
    assert undamaged["migrated"] == 1
    path.write_bytes(data.draw(mutations(_sample())))
    answer = limited.ask("record", path)
    limited.ask("inspect", path)
    assert "refused" in answer or answer == undamaged


@given(data=st.data())
@often(150)
def test_a_damaged_pickle_of_a_record_is_refused_or_migrated_as_it_is_read(folder, limited, data):
    """Checksums and sizes are right: the pair that is made holds what is read, and loads; or nothing is made."""
    path = folder / "model_0007.pt"
    entries = []
    for name, content in samples.members_of(_sample()).items():
        changed = data.draw(mutations(content)) if name.endswith("/data.pkl") else content
        entries.append(Entry(name, changed, flags=0x0808 if changed else 0x0800))
    path.write_bytes(build_zip(entries))
    limited.ask("record", path)
    limited.ask("inspect", path)
