"""Graphs in JSON: what is read, what is inferred, and what strangers' ones can't do."""

import contextlib
import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import metta_hub
from metta_hub import architecture
from metta_hub.architecture.graph import KINDS
from metta_hub.errors import ArchitectureError, MettaHubError, UnknownArchitectureError
from metta_hub.policies.metta_agent import making
from policies import graphs
from policies.graphs import PRESET, model_info

NAMES = sorted(PRESET)


def changed(name, component, **options):
    graph = graphs.architecture(name)
    graph["components"][component] = graph["components"].get(component, {}) | options
    return model_info(graph)


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_is_the_state_dict(name):
    """Names, shapes and order, though torch has no part in the plan."""
    info = model_info(graphs.architecture(name))
    state = metta_hub.create_model_from_metadata(info).state_dict()
    assert list(architecture.plan(info).tensors.items()) == [(key, tuple(item.shape)) for key, item in state.items()]


def test_every_kind_has_a_module():
    assert {making.module.registry[kind] for kind in KINDS.values()} >= {
        making.module.dispatch(k) for k in KINDS.values()
    }
    assert making.module.dispatch(object) not in {making.module.dispatch(kind) for kind in KINDS.values()}


@pytest.mark.parametrize("name", [preset.name for preset in architecture.PRESETS if preset.complete])
@pytest.mark.parametrize("view", [(11, 11), (14, 11)])
def test_a_shipped_agent_is_recognised_whatever_its_environment(name, view):
    shipped = {"components": copy.deepcopy(dict(PRESET[name].components))}
    info = model_info(shipped, action_max_params=[4, 0])
    info["agent_attributes"] |= {"obs_width": view[0], "obs_height": view[1], "obs_shape": [77, 3]}
    tensors = architecture.plan(info).tensors
    del info["architecture"]
    found = architecture.recognise(tensors, info)
    assert (found.preset, found.assumed) == (name, ())
    assert found.architecture["components"] == shipped["components"]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_recovered_from_shapes(name):
    info = model_info(graphs.architecture(name))
    tensors = architecture.plan(info).tensors
    found = architecture.recognise(tensors, {**info, "architecture": None})
    assert found.preset == name or "latent_attn" in name
    assert found.assumed
    assert architecture.plan({**info, "architecture": found.architecture}).tensors == tensors


def test_weights_of_something_else_are_of_no_shipped_agent():
    info = model_info(None)
    tensors = architecture.plan(model_info(graphs.architecture("fast"))).tensors
    for other in ({}, {"w": (3,)}, {**tensors, "more": (1,)}, dict(list(tensors.items())[1:])):
        assert architecture.recognise(other, info) is None
    swapped = {**tensors, "components.fc1._net.0.weight": (6, 5)}
    assert architecture.recognise(swapped, info) is None
    for name in tensors:
        for shape in ((), (1,), (2, 3, 4, 5, 6)):
            architecture.recognise({**tensors, name: shape}, info)  # nothing but an answer


REFUSED = {
    "no graph": lambda: model_info("nav"),
    "no components": lambda: model_info({"components": {}}),
    "a list": lambda: model_info({"components": []}),
    "a component that is none": lambda: model_info({"components": {"_obs_": 3}}),
    "nothing required": lambda: model_info({"components": {"a": {"_target_": "nn_layer_library.ReLU"}}}),
    "many": lambda: model_info({"components": {f"c{n}": {"_target_": "lstm.LSTM"} for n in range(10_000)}}),
    "names with dots": lambda: model_info({"components": {"a.b": {"_target_": "lstm.LSTM"}}}),
    "long names": lambda: model_info({"components": {"a" * 10_000: {"_target_": "lstm.LSTM"}}}),
    "a name of torch's": lambda: shadowing("keys"),
    "another of torch's": lambda: shadowing("forward"),
    "a hidden one of torch's": lambda: shadowing("__class__"),
    "no class": lambda: changed("fast", "fc1", _target_=None),
    "a cycle": lambda: changed("fast", "cnn1", sources=[{"name": "cnn2"}]),
    "a component of its own": lambda: changed("fast", "fc1", sources=[{"name": "fc1"}]),
    "a source that is not there": lambda: changed("fast", "fc1", sources=[{"name": "\x1b[31m"}]),
    "no sources": lambda: changed("fast", "fc1", sources=[]),
    "sources that are none": lambda: changed("fast", "fc1", sources="cnn2"),
    "a source without a name": lambda: changed("fast", "fc1", sources=[{}]),
    "too many sources": lambda: changed("fast", "fc1", sources=[{"name": "cnn2"}] * 1000),
    "an idle component": lambda: changed(
        "fast", "idle", _target_="x.nn_layer_library.ReLU", sources=[{"name": "_core_"}]
    ),
    "two cores": lambda: changed("fast", "fc1", _target_="x.lstm.LSTM", output_size=4),
    "a core that is none": lambda: changed("fast", "_core_", _target_="x.nn_layer_library.ReLU"),
    "a billion units": lambda: changed("fast", "fc1", nn_params={"out_features": 10**9}),
    "more than an axis has": lambda: changed("fast", "fc1", nn_params={"out_features": 10**18}),
    "a negative size": lambda: changed("fast", "fc1", nn_params={"out_features": -1}),
    "a size in words": lambda: changed("fast", "fc1", nn_params={"out_features": "128"}),
    "a size that is true": lambda: changed("fast", "fc1", nn_params={"out_features": True}),
    "no size": lambda: changed("fast", "fc1", nn_params=[]),
    "a nonlinearity that is none": lambda: changed("fast", "fc1", nonlinearity="nn.Module"),
    "a path as nonlinearity": lambda: changed("fast", "fc1", nonlinearity="os.system"),
    "a billion layers": lambda: changed("fast", "_core_", nn_params={"num_layers": 10**9}),
    "a wide core": lambda: changed("fast", "_core_", output_size=10**6),
    "a kernel larger than the view": lambda: changed("fast", "cnn1", nn_params={"out_channels": 4, "kernel_size": 12}),
    "a stride that does not fit": lambda: changed(
        "fast", "cnn1", nn_params={"out_channels": 4, "kernel_size": 5, "stride": 4}
    ),
    "endless padding": lambda: changed(
        "fast", "cnn1", nn_params={"out_channels": 4, "kernel_size": 5, "padding": 10**8}
    ),
    "tokens for a convolution": lambda: changed("latent_attn_tiny", "obs_fourier", **PRESET["fast"].components["cnn1"]),
    "heads that do not fit": lambda: changed("latent_attn_tiny", "obs_cross_attn", num_heads=5),
    "a billion queries": lambda: changed("latent_attn_small", "obs_latent_query_attn", num_query_tokens=10**9),
    "quadratic attention": lambda: changed("latent_attn_small", "obs_latent_query_attn", num_query_tokens=10**5),
    "a ratio that is none": lambda: changed("latent_attn_tiny", "obs_cross_attn", mlp_ratio=float("nan")),
    "a mask of nothing": lambda: changed("latent_attn_small", "obs_latent_self_attn", use_mask=True),
    "a mask that is none": lambda: changed("latent_attn_tiny", "obs_cross_attn", use_mask="yes"),
    "slices of nothing": lambda: changed(
        "reference_design", "channel_selector_0-11", sources=[{"name": "obs_normalizer", "slice": [5, 99]}]
    ),
    "slices backwards": lambda: changed(
        "reference_design", "channel_selector_0-11", sources=[{"name": "obs_normalizer", "slice": [5, 2]}]
    ),
    "slices of the batch": lambda: changed(
        "reference_design", "channel_selector_0-11", sources=[{"name": "obs_normalizer", "slice": [0, 2], "dim": 0}]
    ),
    "slices that are none": lambda: changed(
        "reference_design", "channel_selector_0-11", sources=[{"name": "obs_normalizer", "slice": "all"}]
    ),
    "a depth that is no multiple": lambda: changed("resmlp_value", "critic_2", depth=6),
    "more actions than embeddings": lambda: model_info(graphs.architecture("fast"), action_max_params=[99]),
    "a billion actions": lambda: model_info(graphs.architecture("fast"), action_max_params=[10**9]),
    "actions that are none": lambda: model_info(graphs.architecture("fast"), action_max_params="all"),
    "nothing to observe": lambda: model_info(graphs.architecture("fast"), agent_attributes={}),
    "an observation of texts": lambda: model_info(graphs.architecture("fast"), observation_space={"shape": ["a", 3]}),
    "endless observations": lambda: model_info(graphs.architecture("fast"), observation_space={"shape": [10**9, 3]}),
    "a view without end": lambda: seeing("fast", obs_width=10**9),
    "a wide view": lambda: seeing("fast", obs_width=1024, obs_height=1024),
    "features that are none": lambda: seeing("fast", feature_normalizations={"hp": 1}),
    "features beyond bytes": lambda: seeing("fast", feature_normalizations={"999": 1.0}),
    "normalisations in words": lambda: seeing("fast", feature_normalizations={"1": "one"}),
    "no features": lambda: seeing("fast", feature_normalizations=None),
    "a value of two": lambda: changed("fast", "_value_", nn_params={"out_features": 2}),
}


def shadowing(name):
    """A component of a name that means something to torch."""
    graph = graphs.architecture("fast")
    held = graph["components"]
    held[name] = held.pop("fc1")
    held["encoded_obs"]["sources"] = [{"name": name}]
    return model_info(graph)


def seeing(name, **told):
    info = model_info(graphs.architecture(name))
    info["agent_attributes"] |= told
    return info


@pytest.mark.parametrize("case", REFUSED)
def test_a_graph_that_makes_no_policy_is_refused(case, monkeypatch):
    """In words that are printable and short, and before any memory is taken."""
    info = REFUSED[case]()
    monkeypatch.setattr(torch.nn.Parameter, "__new__", None)
    with pytest.raises(ArchitectureError) as refused:
        metta_hub.create_model_from_metadata(info)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.eval", "nn_layer_library.Sequential", "Linear", "mine.Linear"]
)
def test_a_class_is_looked_up_and_never_imported(target):
    info = changed("fast", "fc1", _target_=target)
    with pytest.raises(UnknownArchitectureError) as refused:
        metta_hub.create_model_from_metadata(info)
    assert refused.value.name == target
    assert "'fc1'" in refused.value.hint


def test_options_that_metta_ignores_are_ignored():
    info = changed("fast", "fc1", effective_rank=True, input_source="nobody", analyze_weights={"deep": [1]})
    assert metta_hub.create_model_from_metadata(info)


def test_a_long_chain_is_no_recursion():
    graph = graphs.architecture("fast")
    held, last = graph["components"], "_core_"
    for number in range(180):
        name = f"step{number}"
        held[name] = {"_target_": "x.nn_layer_library.ReLU", "sources": [{"name": last}]}
        last = name
    held["critic_1"]["sources"] = [{"name": last}]
    assert metta_hub.create_model_from_metadata(model_info(graph))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(NAMES), st.data())
def test_whatever_a_graph_holds_it_is_planned_or_refused(name, data):
    info = copy.deepcopy(model_info(graphs.architecture(name)))
    for _ in range(data.draw(st.integers(1, 3))):
        node = info
        while True:
            key = data.draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
            inner = node[key]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
                break
            node = inner
        if isinstance(node, dict) and data.draw(st.booleans()):
            del node[key]
        else:
            node[key] = data.draw(JSON_VALUES)
        if not info:
            break
    with contextlib.suppress(MettaHubError):
        assert architecture.plan(info).tensors
