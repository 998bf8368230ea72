"""Metadata: every flavour in, one clean flavour out."""

import contextlib
import json
import math
import os
import sys
from collections import OrderedDict
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metta_hub import metadata, strict_json
from metta_hub.errors import FormatError, MetadataError, MettaHubError, UsageError
from metta_hub.metadata import Repair, assign, block_for, config_view, dumps, from_values, parse

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = [
    *sorted(SHARED.glob("fixtures/run/model_*.json")),
    *sorted(SHARED.glob("fixtures/metta/*/*/pair/*.json")),
    *sorted(SHARED.glob("fixtures/metta/*/*/migrated/*.json")),
    *sorted(SHARED.glob("fixtures/metta/eras/*/model_*.json")),
]
SHA = "0123456789abcdef" * 4


def read(values):
    return parse(json.dumps(values).encode(), "model.json")


def document(known, **facts):
    return dumps({**known.values, "metta_hub": block_for(known, facts)})


# --- repairs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "was", "now", "certain"),
    [
        ("agent_step", "1572864", 1572864, True),
        ("agent_step", " 1572864 ", 1572864, True),
        ("epoch", 3.0, 3, True),
        ("epoch", "3.0", 3, True),
        ("epoch", "tensor(3)", 3, True),
        ("epoch", "tensor(3.)", 3, False),
        ("epoch", 1e18, 10**18, False),
        ("agent_step", "1.5e6", 1500000, True),
        ("agent_step", "np.int64(1572864)", 1572864, True),
        ("avg_reward", "0.625", 0.625, True),
        ("avg_reward", "-.5", -0.5, True),
        ("score", "tensor(0.2500)", 0.25, False),
        ("score", "tensor(0.2500, device='cuda:0')", 0.25, False),
        ("score", "tensor(2.5000e-01, dtype=torch.float64)", 0.25, False),
        ("score", "tensor(0.2500, grad_fn=<MeanBackward0>)", 0.25, False),
        ("score", "array(0.25)", 0.25, False),
        ("score", "array(0.25, dtype=float32)", 0.25, False),
        ("score", "np.float64(0.25)", 0.25, True),
        ("score", "numpy.float32(0.25)", 0.25, True),
        ("score", "nan", None, True),
        ("score", "-inf", None, True),
        ("score", "tensor(nan)", None, True),
        ("score", "1e999", None, True),
        ("train_time", "4743", 4743, True),
        ("reward_sem", "1e-3", 0.001, True),
    ],
)
def test_numbers_that_became_texts_are_numbers_again(key, was, now, certain):
    known = read({key: was})
    assert known.values[key] == now
    assert type(known.values[key]) is type(now)
    assert known.repairs == (Repair(f"/{key}", was, certain),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "high",
        "0x10",
        "1_000",
        "1,5",
        "tensor([0.25])",
        "tensor(True)",
        "٣",
        "1e",
        "--1",
        "1" * 400,
        "0.5%",
        "[0 1 2]",
    ],
)
def test_a_text_that_says_no_number_stays_and_counts_as_missing(text):
    known = read({"score": text})
    assert known.values["score"] == text
    assert known.repairs == ()
    assert metadata.number(known.values["score"]) is None


@pytest.mark.parametrize("value", ["5", "tensor(0.2500)", "MultiDiscrete([5 4])", "nan", 3.0])
def test_a_key_outside_the_schema_means_what_it_says(value):
    values = {"obs_hist": value, "losses": {"score": value}, "list": [value]}
    known = read(values)
    assert {key: known.values[key] for key in values} == values
    assert known.repairs == ()


def test_numbers_are_repaired_wherever_the_schema_has_them():
    known = read(
        {
            "evals": {
                "category_scores": {"a/b": "0.5"},
                "list": ["1", {"deep": "tensor(0.1)"}],
                "text": "n/a",
            },
            "eval_scores": {"memory": "tensor(0.2500)"},
            "original_feature_mapping": {"hp": "2"},
            "model_info": {
                "hidden_size": "32",
                "type": "128",
                "action_max_params": ["0", 1],
                "agent_attributes": {
                    "feature_normalizations": {"0": "255.0"},
                    "obs_width": "11",
                    "obs_shape": "(200, 3)",
                },
            },
        }
    )
    assert known.values["evals"] == {
        "category_scores": {"a/b": 0.5},
        "list": [1, {"deep": 0.1}],
        "text": "n/a",
    }
    assert known.values["model_info"] == {
        "hidden_size": 32,
        "type": "128",
        "action_max_params": [0, 1],
        "agent_attributes": {"feature_normalizations": {"0": 255.0}, "obs_width": 11, "obs_shape": [200, 3]},
    }
    assert {one.pointer for one in known.repairs} == {
        "/evals/category_scores/a~1b",
        "/evals/list/0",
        "/evals/list/1/deep",
        "/eval_scores/memory",
        "/original_feature_mapping/hp",
        "/model_info/hidden_size",
        "/model_info/action_max_params/0",
        "/model_info/agent_attributes/feature_normalizations/0",
        "/model_info/agent_attributes/obs_width",
        "/model_info/agent_attributes/obs_shape",
    }


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("MultiDiscrete([5 4])", {"type": "MultiDiscrete", "nvec": [5, 4]}),
        ("MultiDiscrete([10\n 4])", {"type": "MultiDiscrete", "nvec": [10, 4]}),
        ("Discrete(5)", {"type": "Discrete", "n": 5}),
    ],
)
def test_a_printed_action_space_is_a_space_again(was, now):
    known = read({"model_info": {"agent_attributes": {"action_space": was}}})
    assert known.values["model_info"]["agent_attributes"]["action_space"] == now
    assert known.repairs == (Repair("/model_info/agent_attributes/action_space", was, certain=True),)


@pytest.mark.parametrize(
    "was",
    ["Discrete(5, start=1)", "Box(0, 255, (3,), uint8)", "MultiDiscrete([[5 4]])", "Discrete(x)", "Discrete(5)" * 99],
)
def test_a_space_that_is_not_understood_stays(was):
    known = read({"model_info": {"agent_attributes": {"action_space": was}}})
    assert known.values["model_info"]["agent_attributes"]["action_space"] == was
    assert known.repairs == ()


def test_a_long_whole_number_in_a_list_stays_one_number():
    known = read({"model_info": {"agent_attributes": {"obs_shape": "[1234567890123456789012]"}}})
    assert known.values["model_info"]["agent_attributes"]["obs_shape"] == [1234567890123456789012]


@pytest.mark.parametrize(
    ("text", "was"),
    [("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity"), ("1e999", "Infinity")],
)
def test_what_json_cannot_say_is_null(text, was):
    known = parse(f'{{"epoch": 1, "anything": {{"deep": [{text}]}}, "avg_reward": {text}}}'.encode(), "x")
    assert known.values == {"epoch": 1, "anything": {"deep": [None]}, "avg_reward": None}
    assert known.repairs == (
        Repair("/anything/deep/0", was, certain=True),
        Repair("/avg_reward", was, certain=True),
    )


def test_containers_of_the_wrong_kind_stay():
    values = {
        "evals": [1, "x"],
        "action_names": "noop",
        "model_info": "MettaAgent",
        "eval_scores": 5,
        "score": [1],
    }
    known = read(values)
    assert {key: known.values[key] for key in values} == values


def test_booleans_are_no_numbers():
    known = read({"score": True, "evals": {"won": False}})
    assert known.values["score"] is True
    assert metadata.number(True) is None
    assert metadata.whole(True) is None
    assert list(metadata.numbers_in({"a": True, "b": [1, {"c": 2.5}], "d": "3", "e": math.nan})) == [
        ("b.0", 1.0),
        ("b.1.c", 2.5),
    ]


# --- the required four -------------------------------------------------------------------------------------


def test_what_nobody_knows_is_listed_and_written_as_null():
    known = read({"generation": 0, "train_time": None, "epoch": "soon"})
    assert known.unknown == ("epoch", "agent_step", "train_time")
    assert known.repairs == (Repair("/epoch", "soon", certain=False),)
    written = json.loads(dumps(known.values))
    assert written == {"epoch": None, "agent_step": None, "generation": 0, "train_time": None}


@pytest.mark.parametrize("value", [[], {}, True, [3], 3.5, 1e300])
def test_a_required_key_that_cannot_be_a_number_is_refused(value):
    with pytest.raises(MetadataError) as error:
        read({"epoch": value})
    assert error.value.pointer == "/epoch"


# --- bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", FormatError, "not JSON"),
        (b"[]", FormatError, "no object"),
        (b'"text"', FormatError, "no object"),
        (b'{"a": 1', FormatError, "line 1 column"),
        (b"{'a': 1}", FormatError, "not JSON"),
        (b'{"a": "\xff"}', FormatError, "UTF-8"),
        ('{"epoch": 1}'.encode("utf-16"), FormatError, "UTF-8"),
        (b'{"a": 1, "b": {"epoch": 1, "epoch": 2}}', MetadataError, "/b/epoch"),
        (b'{"a": 1, "a": 1}', MetadataError, "/a"),
        (b'{"a": ' + b"1" * 301 + b"}", MetadataError, "digits"),
        (b'{"a": ' + b"1" * 9999 + b"}", MetadataError, "digits"),
        (b'{"\\ud800": 1}', MetadataError, "Unicode"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, MetadataError, "deeper"),
        (b"[" * 100_000, MetadataError, "deeper"),
        (b'{"a": [' + b"1," * 200_001 + b"1]}", FormatError, "values"),
        (b'"' + b'\\"' * 1_000_000, FormatError, "not JSON"),
        (b'{"a": "' + b"x" * (17 << 20) + b'"}', FormatError, "more than"),
    ],
)
def test_a_strangers_json_is_bounded(data, error, says):
    with pytest.raises(error, match=says):
        parse(data, "model.json")


def test_many_commas_in_a_text_are_one_value():
    assert read({"note": "," * 300_000}).values["note"] == "," * 300_000


def test_big_whole_numbers_are_kept():
    assert read({"agent_step": 2**70}).values["agent_step"] == 2**70


def test_a_byte_order_mark_is_tolerated():
    assert parse(b'\xef\xbb\xbf{"epoch": 1}', "x").values == {"epoch": 1}


def test_a_lone_surrogate_is_replaced_and_told():
    known = parse(b'{"uri": "file:///tmp/\\udce9t\\u00e9"}', "x")
    assert known.values["uri"] == "file:///tmp/\ufffdté"
    assert known.repairs == (Repair("/uri", "file:///tmp/\\udce9té", certain=False),)
    assert parse(dumps(known.values), "x").values["uri"] == "file:///tmp/\ufffdté"


def test_depth_of_exactly_the_limit_is_read():
    value = {"a": 1}
    for _ in range(strict_json.MAX_DEPTH - 2):
        value = {"a": value}
    known = read(value)
    assert known.values == value
    dumps(known.values)


# --- the block ---------------------------------------------------------------------------------------------


def test_a_pulled_pair_pushed_again_gives_the_same_bytes():
    known = read({"epoch": 3, "score": "tensor(0.5)", "uri": "file://x.pt", "z": 1, "a": 2})
    facts = {
        "redactions": [{"pointer": "/uri", "kind": "home path"}],
        "added": ["/model_info/architecture"],
        "assumed": ["/model_info/architecture"],
        "original_name": "x:v3",
        "tied": [["a", "b"]],
        "weights": {"size": 5, "sha256": SHA},
    }
    first = document(known, **facts)
    again = parse(first, "x")
    assert again.repairs == known.repairs
    assert again.unknown == known.unknown == ("agent_step", "generation", "train_time")
    assert document(again, tied=facts["tied"], weights=facts["weights"]) == first
    assert json.loads(first)["metta_hub"]["redactions"] == facts["redactions"]


def test_new_redactions_join_the_earlier_ones():
    known = parse(document(read({}), redactions=[{"pointer": "/a", "kind": "home path"}]), "x")
    more = [{"pointer": "/b", "kind": "home path"}, {"pointer": "/a", "kind": "home path"}]
    assert block_for(known, {"redactions": more})["redactions"] == [
        {"pointer": "/a", "kind": "home path"},
        {"pointer": "/b", "kind": "home path"},
    ]


def test_what_became_known_is_no_longer_unknown():
    again = parse(document(read({"epoch": 3})), "x")
    assert again.block["unknown"] == ["agent_step", "generation", "train_time"]
    assert again.with_values({**again.values, "agent_step": 5}).unknown == ("generation", "train_time")


def test_a_block_of_a_later_version_is_refused():
    with pytest.raises(MetadataError, match="newer") as caught:
        metadata.parse(b'{"metta_hub": {"format_version": 2}}', "later.json")
    assert caught.value.pointer == "/metta_hub/format_version"


@pytest.mark.parametrize(
    "block",
    [
        "mine",
        ["mine"],
        {},
        {"format_version": True},
        {"format_version": 1.0},
        {"format_version": "2"},
        {"format_version": 1, "repairs": {}},
        {"format_version": 1, "repairs": [{"pointer": "/a"}]},
        {"format_version": 1, "repairs": [{"pointer": 1, "was": "", "certain": True}]},
        {"format_version": 1, "redactions": [{"pointer": "/a", "kind": 5}]},
        {"format_version": 1, "unknown": "epoch"},
        {"format_version": 1, "weights": {"size": -1, "sha256": SHA}},
        {"format_version": 1, "weights": {"size": 1, "sha256": "../../etc"}},
        {"format_version": 1, "files": {"a": 1}},
        {"format_version": 1, "tied": [[1]]},
        {"format_version": 1, "original_name": None},
        {"format_version": 1, "held": []},
    ],
)
def test_a_foreign_block_is_held_and_not_believed(block):
    known = read({"epoch": 1, "metta_hub": block})
    assert known.block == {}
    assert known.foreign_block == block
    assert "metta_hub" not in known.values
    again = parse(document(known), "x")
    assert again.foreign_block == block
    assert document(again) == document(known)
    assert config_view(again).held == {"metta_hub": block}


def test_unknown_keys_of_a_block_of_ours_are_left_alone():
    block = {"format_version": 1, "from_the_future": {"a": 1}}
    known = read({"metta_hub": block})
    assert known.block == block
    assert known.foreign_block is None


# --- writing -----------------------------------------------------------------------------------------------


def test_the_order_is_the_documents_then_the_alphabets():
    values = {
        "zeta": 1,
        "metta_hub": {},
        "uri": "u",
        "alpha": 1,
        "train_time": 0.5,
        "evals": {"b": 1, "a": 2},
        "epoch": 1,
    }
    text = dumps(values)
    assert list(json.loads(text)) == [
        "epoch",
        "agent_step",
        "generation",
        "train_time",
        "uri",
        "evals",
        "alpha",
        "zeta",
        "metta_hub",
    ]
    assert list(json.loads(text)["evals"]) == ["b", "a"]
    assert text.startswith(b'{\n  "epoch": 1,\n')
    assert text.endswith(b"}\n")


def test_text_is_written_as_it_is():
    assert '"run_name": "naïve 夜"' in dumps({"run_name": "naïve 夜"}).decode()


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", object()])
def test_what_strict_json_cannot_say_is_not_written(value):
    with pytest.raises(MetadataError):
        dumps({"a": value})


def test_the_keys_that_a_hub_acts_on_are_held():
    view = config_view(
        read({"auto_map": {"A": "evil.A"}, "model_type": "bert", "epoch": 1, "model_info": {"type": "A"}})
    )
    assert view.values == {"epoch": 1, "model_info": {"type": "A"}}
    assert view.held == {"auto_map": {"A": "evil.A"}, "model_type": "bert"}


# --- values that never were JSON ---------------------------------------------------------------------------


class Scalar:
    """What numpy and torch values have in common."""

    def __init__(self, value):
        self.value = value

    def tolist(self):
        return self.value


class Colour(str, Enum):  # noqa: UP042  (whose str() is not its value)
    RED = "red"


def test_python_values_become_json():
    known = from_values(
        OrderedDict(
            epoch=Scalar(3),
            evals={"nav": Scalar(0.5), 7: Scalar([1, 2]), None: 1, True: 2},
            where=Path("a/b"),
            names=("x", "y"),
            set={"b", "a"},
            colour=Colour.RED,
            score=math.nan,
        )
    )
    assert known.values == {
        "epoch": 3,
        "evals": {"nav": 0.5, "7": [1, 2], "null": 1, "true": 2},
        "where": os.fspath(Path("a/b")),
        "names": ["x", "y"],
        "set": ["a", "b"],
        "colour": "red",
        "score": None,
    }
    assert type(known.values["colour"]) is str
    assert known.repairs == (Repair("/score", "NaN", certain=True),)


def loop():
    made = {}
    made["a"] = made["b"] = made
    return made


def bomb():
    made = ["x"] * 10
    for _ in range(12):
        made = [made] * 10
    return {"a": made}


@pytest.mark.parametrize(
    "values",
    [
        {"a": object()},
        {"a": b"bytes"},
        {"a": datetime.now(UTC)},
        {("a", "b"): 1},
        {1: "a", "1": "b"},
        {"a": 10**301},
        {"\ud800": 1},
        loop(),
        bomb(),
        {"a": Scalar(Scalar(None))} | {"b": type("Self", (), {"tolist": lambda self: self})()},
    ],
)
def test_python_values_without_a_word_in_json_are_refused(values):
    with pytest.raises(MetadataError):
        from_values(values)


def test_metadata_are_a_mapping():
    with pytest.raises(MetadataError, match="no mapping"):
        from_values([("epoch", 1)])


def test_the_values_given_are_not_changed():
    values = {"epoch": "3", "model_info": {"hidden_size": "8"}}
    from_values(values)
    assert values == {"epoch": "3", "model_info": {"hidden_size": "8"}}


# --- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("epoch=140", {"epoch": 140}),
        ("epoch=3.0", {"epoch": 3}),
        ("epoch=null", {"epoch": None}),
        ("train_time=1.5", {"train_time": 1.5}),
        ("run_name=140", {"run_name": "140"}),
        ("run_name=a=b", {"run_name": "a=b"}),
        ("model_info.hidden_size=128", {"model_info": {"hidden_size": 128}}),
        ("model_info.type=MettaAgent", {"model_info": {"type": "MettaAgent"}}),
        ("evals.maze=0.5", {"evals": {"maze": 0.5}}),
        ("/evals/a.b~1c=0.5", {"evals": {"a.b/c": 0.5}}),
        ('action_names=["a","b"]', {"action_names": ["a", "b"]}),
        ("note=free text", {"note": "free text"}),
        ("note=NaN", {"note": "NaN"}),
        ('note={"a": [1]}', {"note": {"a": [1]}}),
        (
            "model_info.agent_attributes.action_space=Discrete(5)",
            {"model_info": {"agent_attributes": {"action_space": {"type": "Discrete", "n": 5}}}},
        ),
        (
            "model_info.agent_attributes.action_space.n=5",
            {"model_info": {"agent_attributes": {"action_space": {"n": 5}}}},
        ),
    ],
)
def test_settings(setting, values):
    assert assign({}, [setting]) == values


@pytest.mark.parametrize(
    ("setting", "pointer"),
    [
        ("epoch=abc", "/epoch"),
        ("epoch=3.5", "/epoch"),
        ("epoch=true", "/epoch"),
        ("train_time=NaN", "/train_time"),
        ("evals.maze=high", "/evals/maze"),
        ("evals=5x", "/evals"),
        ("model_info=5", "/model_info"),
        ("model_info=[1]", "/model_info"),
        ("action_names=a,b", "/action_names"),
        ("model_info.agent_attributes.action_space=5", "/model_info/agent_attributes/action_space"),
        ("metta_hub.added=1", "/metta_hub"),
        ("run_name.x=1", "/run_name"),
        ("run_name.x.y=1", "/run_name/x"),
        ("list.5=1", "/list/5"),
        ("list.x=1", "/list/x"),
        ("list.00=1", "/list/00"),
        ('note={"a":1,"a":2}', "/a"),
    ],
)
def test_settings_that_cannot_be(setting, pointer):
    with pytest.raises(MetadataError) as error:
        assign({"run_name": "r", "list": [1]}, [setting])
    assert error.value.pointer == pointer


@pytest.mark.parametrize("setting", ["epoch", "=5", "/=5", ""])
def test_a_setting_without_key_or_value_is_wrong_usage(setting):
    with pytest.raises(UsageError, match="sets nothing"):
        assign({}, [setting])


def test_settings_change_what_is_there_and_nothing_else():
    values = {"evals": {"a": 1}, "list": [1, 2], "nothing": None}
    assert assign(values, ["evals.b=2", "list.1=3", "list.0={}", "list.0.y=4", "nothing.x=1"]) == {
        "evals": {"a": 1, "b": 2},
        "list": [{"y": 4}, 3],
        "nothing": {"x": 1},
    }
    assert values == {"evals": {"a": 1}, "list": [1, 2], "nothing": None}


def test_a_repair_of_what_was_overwritten_is_forgotten():
    known = read({"score": "tensor(0.5)", "avg_reward": "0.25", "evals": ["1", "2"]})
    changed = known.with_values(assign(known.values, ["score=0.75"]))
    assert [one.pointer for one in changed.repairs] == ["/avg_reward", "/evals/0", "/evals/1"]
    assert changed.values["score"] == 0.75
    assert changed.with_values({"evals": ["5"]}).repairs == (Repair("/evals/0", "5", certain=True),)


# --- everything --------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=20,
)
spoiled = st.sampled_from(["1572864", "tensor(0.2500)", "nan", "Discrete(5)", "x", "3.0", 1e300]) | json_values
known_keys = st.dictionaries(st.sampled_from([*metadata.SCHEMA, "metta_hub", "obs_hist"]), spoiled, max_size=8)
any_metadata = st.builds(
    lambda a, b: {**a, **b}, known_keys, st.dictionaries(st.text(max_size=8), json_values, max_size=4)
)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused_with_our_errors(data):
    with contextlib.suppress(MettaHubError):
        parse(data, "x")


@given(any_metadata)
def test_reading_what_was_written_changes_nothing(values):
    try:
        known = parse(json.dumps(values).encode(), "x")
    except MetadataError:
        return
    first = document(known)
    again = parse(first, "x")
    assert document(again) == first
    assert again.repairs == known.repairs
    assert again.unknown == known.unknown
    assert json.loads(first, parse_constant=pytest.fail)
    assert parse(dumps(known.values), "x").repairs == ()


strict_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda key: key not in metadata.SCHEMA and key != "metta_hub"),
        strict_values,
    )
)
def test_what_the_schema_does_not_know_passes_untouched(values):
    known = read(values)
    assert known.values == values
    assert known.repairs == ()
    assert {key: parse(dumps(known.values), "x").values[key] for key in values} == values


@given(any_metadata)
def test_python_values_and_their_json_are_read_alike(values):
    try:
        expected = parse(json.dumps(values).encode(), "x")
    except MetadataError:
        return
    actual = from_values(values)
    assert actual.values == expected.values
    assert actual.repairs == expected.repairs


@pytest.mark.skipif(sys.flags.optimize > 0, reason="asserts are off")
@pytest.mark.parametrize("path", REAL, ids=lambda path: "/".join(path.parts[-4:]))
def test_mettas_own_files(path):
    known = parse(path.read_bytes(), path)
    assert known.unknown == ()
    assert all(type(known.values[key]) is int for key in ("epoch", "agent_step", "generation"))
    before = json.loads(path.read_bytes())
    assert known.values.keys() == before.keys()
    changed = {one.pointer.split("/")[1] for one in known.repairs}
    assert {key for key in before if before[key] != known.values[key]} == changed
    first = document(known)
    assert document(parse(first, path)) == first


SPOILED = """{
  "agent_step": "1572864", "epoch": 3, "generation": 1, "train_time": 4743.247,
  "eval_scores": {"navigation": "0.5", "memory": "tensor(0.2500)"}, "avg_reward": "0.625",
  "obs_hist": "[0 1 2]",
  "model_info": {"type": "MettaAgent", "agent_attributes": {"action_space": "MultiDiscrete([5 4])"}}
}"""


def test_the_module_migrators_flavour():
    known = parse(SPOILED.encode(), "model_0003.json")
    assert known.values["agent_step"] == 1572864
    assert known.values["eval_scores"] == {"navigation": 0.5, "memory": 0.25}
    assert known.values["obs_hist"] == "[0 1 2]"
    assert [one.pointer for one in known.repairs if not one.certain] == ["/eval_scores/memory"]
