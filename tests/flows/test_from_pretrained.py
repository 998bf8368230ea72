"""A policy of a registered architecture, built from the Hub or from disk."""

import pytest
import torch

import metta_hub
from metta_hub import errors, policies


class Tied(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.encoder = torch.nn.Linear(4, hidden, bias=False)
        self.decoder = torch.nn.Linear(4, hidden, bias=False)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, observation):
        return self.decoder(observation)


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    monkeypatch.setattr(policies, "_BUILDERS", {})


@pytest.fixture
def saved(tmp_path):
    module = Tied(3)
    torch.save(module.state_dict(), tmp_path / "tied_0001.pt")
    return module, tmp_path / "tied_0001.pt"


def publish(path, repo_id, **options):
    settings = ['model_info={"type": "Tied", "hidden_size": 3}']
    return metta_hub.push(path, repo_id, settings=settings, **options)


@pytest.mark.parametrize("pt", [True, False])
def test_a_registered_policy_gives_the_authors_numbers(saved, repo_id, pt):
    module, path = saved
    publish(path, repo_id, pt=pt)
    metta_hub.register("Tied", lambda info: Tied(info["hidden_size"]))
    policy = metta_hub.from_pretrained(repo_id)
    observation = torch.randn(2, 4)
    assert policy(observation).equal(module(observation))
    assert not policy.training
    assert policy.steps == 7


def test_on_the_meta_device_too(saved, repo_id):
    module, path = saved
    publish(path, repo_id)

    def builder(info):
        with torch.device("meta"):
            return Tied(info["hidden_size"])

    metta_hub.register("Tied", builder)
    policy = metta_hub.from_pretrained(repo_id)
    assert not [name for name, tensor in policy.state_dict().items() if tensor.is_meta]
    assert policy(torch.ones(4)).equal(module(torch.ones(4)))


def test_weights_of_another_size_are_explained_and_nothing_is_loaded(saved, repo_id):
    publish(saved[1], repo_id)
    metta_hub.register("Tied", lambda info: torch.nn.Linear(4, info["hidden_size"]))
    with pytest.raises(errors.WeightsMismatchError) as caught:
        metta_hub.from_pretrained(repo_id)
    assert caught.value.missing == ("bias", "weight")
    assert caught.value.unexpected == ("decoder.weight", "encoder.weight", "steps")


def test_an_architecture_that_nobody_registered(saved, repo_id):
    publish(saved[1], repo_id)
    metta_hub.register("Other", Tied)
    with pytest.raises(
        errors.UnknownArchitectureError, match=r"'Tied' \(known: LSTMPolicy, MettaAgent, Other, lstm\)"
    ) as caught:
        metta_hub.from_pretrained(repo_id)
    assert "metta_hub.register('Tied', builder)" in caught.value.hint
    assert "inspect" in caught.value.hint


def test_a_name_is_registered_once():
    metta_hub.register("Tied", Tied)
    metta_hub.register("Tied", Tied)
    with pytest.raises(errors.ConflictError):
        metta_hub.register("Tied", torch.nn.Linear)


DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
]


def test_every_dtype_comes_back_through_the_hub_bit_for_bit(repo_id, tmp_path):
    state = {}
    for dtype in DTYPES:
        size = torch.empty(0, dtype=dtype).element_size()
        high = 2 if dtype is torch.bool else 256
        values = torch.randint(0, high, (6 * size,), dtype=torch.uint8).view(dtype)
        state[f"{dtype}.matrix"] = values.reshape(2, 3)
        state[f"{dtype}.scalar"] = values[0].clone()
        state[f"{dtype}.empty"] = values[:0].reshape(0, 3).clone()
        state[f"{dtype}.view"] = values[2:4]
        state[f"{dtype}.transposed"] = values.reshape(2, 3).t()
    torch.save(state, tmp_path / "all_0001.pt")
    metta_hub.push(tmp_path / "all_0001.pt", repo_id, pt=False)
    pulled = torch.load(metta_hub.pull(repo_id, tmp_path / "pulled").pt, weights_only=True)
    mapped = torch.load(tmp_path / "pulled" / "all_0001.pt", weights_only=True, mmap=True)
    for loaded in (pulled, mapped):
        assert set(loaded) == set(state)
        for name, tensor in state.items():
            assert loaded[name].dtype == tensor.dtype, name
            assert loaded[name].shape == tensor.shape, name
            if tensor.numel():
                assert bits(loaded[name]).equal(bits(tensor)), name


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)
