"""What a module's state dict holds is in the pair that `PolicyStore.save` writes of it, whatever it is like."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from containers.builders import raw
from metta_hub import PolicyRecord, PolicyStore
from metta_hub.errors import BadValueError
from properties.strategies import often, state_dicts


class Holding(torch.nn.Module):
    """A module with a state dict that was made elsewhere."""

    def __init__(self, state):
        super().__init__()
        self.held = [state]

    def state_dict(self):
        return self.held[0]


@given(st.data())
@often(30)
def test_a_module_that_is_saved_is_read_as_it_was(folder, data):
    state = data.draw(state_dicts())
    record = PolicyRecord(None, "nav", None, {"epoch": len(state)})
    record.policy = Holding(state)
    if not state:
        with pytest.raises(BadValueError):
            PolicyStore().save(record, folder / "saved.pt")
        return
    PolicyStore().save(record, folder / "saved.pt")
    loaded = torch.load(folder / "saved.pt", weights_only=True)
    assert list(loaded) == list(state)
    for name, tensor in state.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert raw(loaded[name]) == raw(tensor.detach())
    places = [{name: place(tensor) for name, tensor in held.items() if tensor.numel()} for held in (state, loaded)]
    for one in places[0]:
        for other in places[0]:  # tied before and after, or neither
            assert (places[0][one] == places[0][other]) == (places[1][one] == places[1][other])


def place(tensor):
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
