"""The index of a repo's checkpoints, and choosing one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metta_hub import history, metadata, names
from metta_hub.errors import ConflictError, FormatError, MetadataError, MettaHubError, NotFoundError, UsageError
from metta_hub.history import Entry, FileRecord, Index, dumps, metric, parse, put, ranked, select

RUN = sorted((Path(__file__).parents[2].parent / "shared" / "fixtures" / "run").glob("model_*.json"))
NOW = "2026-11-23T15:00:00Z"
RECORD = FileRecord(size=3, sha256="ab" * 32)


def entry(name="model_0001", **fields):
    blank = Entry(
        name=name,
        run_name="run",
        epoch=None,
        agent_step=None,
        score=None,
        avg_reward=None,
        reward_sem=None,
        evals={},
        eval_scores={},
        parameters=10,
        files={names.metadata_file(name): RECORD, names.weights_file(name): RECORD},
        published_at=NOW,
    )
    return replace(blank, **fields)


def index(*entries, root=None):
    return Index(root, entries)


def named(entries):
    return [one.name for one in entries]


# --- the file -------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back():
    made = index(
        entry("a", epoch=1, agent_step=5, score=0.5, evals={"nav": 0.5, "cat": {"x": 1.0}}, run_name=None),
        entry("b", epoch=2, avg_reward=1.5, reward_sem=0.1, eval_scores={"nav": 1}),
        entry("c", files={names.metadata_file("c"): RECORD, "model.safetensors": RECORD, "c.pt": RECORD}),
        root="c",
    )
    data = dumps(made)
    assert parse(data) == made
    assert dumps(parse(data)) == data
    assert list(json.loads(data)) == ["format_version", "root", "checkpoints"]


def test_an_empty_index():
    assert dumps(Index(None, ())) == b'{\n  "format_version": 1,\n  "root": null,\n  "checkpoints": []\n}\n'
    assert parse(dumps(Index(None, ()))) == Index(None, ())


def test_the_order_of_entries_does_not_matter():
    made = [entry("b", epoch=10), entry("a", epoch=9), entry("z"), entry("c", epoch=10)]
    assert named(parse(dumps(index(*made))).entries) == ["a", "b", "c", "z"]
    assert dumps(index(*made)) == dumps(index(*reversed(made)))


def test_one_line_a_checkpoint():
    lines = dumps(index(entry("a"), entry("b"), root="a")).decode().splitlines()
    assert [json.loads(line.strip(" ,"))["name"] for line in lines[4:-2]] == ["a", "b"]


def test_two_hundred_checkpoints_stay_small():
    evals = {"category_scores": {f"category_{n}": 0.123456789 for n in range(6)}}
    made = [
        entry(
            f"model_{n:06}",
            epoch=n,
            agent_step=n * 16384,
            score=0.123456789,
            avg_reward=0.123456789,
            evals=evals,
            files={
                names.metadata_file(f"model_{n:06}"): FileRecord(2345, "ab" * 32),
                names.recipe_file(f"model_{n:06}"): FileRecord(2345, "ab" * 32),
                names.weights_file(f"model_{n:06}"): FileRecord(26_000_000, "ab" * 32),
            },
        )
        for n in range(200)
    ]
    assert len(dumps(index(*made))) < 200_000


def broken(**changes):
    document = json.loads(dumps(index(entry("a"), entry("b"), root="a")))
    place, value = changes.popitem()
    node = document
    *way, last = (int(part) if part.isdigit() else part for part in place.split("__"))
    for part in way:
        node = node[part]
    node[last] = value
    return json.dumps(document).encode()


GOOD_FILE = {"size": 1, "sha256": "ab" * 32}


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", FormatError, "not JSON"),
        (b"[]", FormatError, "not an index"),
        (b"{}", FormatError, "not an index"),
        (b'{"format_version": 1, "root": null}', FormatError, "not an index"),
        (b'{"format_version": 2, "checkpoints": []}', FormatError, "format 1"),
        (b'{"format_version": true, "checkpoints": []}', FormatError, "format 1"),
        (b'{"format_version": 1, "checkpoints": [], "x": NaN}', FormatError, "not an index"),
        (b'{"format_version": 1, "checkpoints": [' + b"0," * 20_000 + b"0]}", FormatError, "20,000"),
        (broken(root="c"), MetadataError, "/root"),
        (broken(root="A"), MetadataError, "/root"),
        (broken(root=5), MetadataError, "/root"),
        (broken(checkpoints__0=5), MetadataError, "/checkpoints/0:"),
        (broken(checkpoints__1__name="A"), MetadataError, "/checkpoints/1/files"),
        (broken(checkpoints__1__name=None), MetadataError, "/checkpoints/1/name"),
        (broken(checkpoints__1__name="../evil"), MetadataError, "/checkpoints/1/name"),
        (broken(checkpoints__1__name="latest"), MetadataError, "/checkpoints/1/name"),
        (broken(checkpoints__1__parameters=-1), MetadataError, "parameters"),
        (broken(checkpoints__1__parameters=True), MetadataError, "parameters"),
        (broken(checkpoints__1__published_at="yesterday"), MetadataError, "published_at"),
        (broken(checkpoints__1__published_at="2026-11-23T15:00:00Z\n"), MetadataError, "published_at"),
        (broken(checkpoints__1__files=[]), MetadataError, "files"),
        (broken(checkpoints__1__files={"README.md": GOOD_FILE}), MetadataError, "files"),
        (broken(checkpoints__1__files={"checkpoints/../x": GOOD_FILE}), MetadataError, "files"),
        (broken(checkpoints__1__files={"checkpoints/a.json": GOOD_FILE}), MetadataError, "files"),
        (broken(checkpoints__1__files={"model.safetensors": GOOD_FILE}), MetadataError, "files"),
        (broken(checkpoints__1__files={"b.pt": GOOD_FILE}), MetadataError, "files"),
        (broken(checkpoints__1__files={"checkpoints/b.json": 5}), MetadataError, "b.json"),
        (
            broken(checkpoints__1__files={"checkpoints/b.json": {"size": 1, "sha256": "AB" * 32}}),
            MetadataError,
            "b.json",
        ),
        (
            broken(checkpoints__1__files={"checkpoints/b.json": {"size": 1.0, "sha256": "ab" * 32}}),
            MetadataError,
            "b.json",
        ),
        (broken(checkpoints__1__files={"checkpoints/b.json": {"sha256": "ab" * 32}}), MetadataError, "b.json"),
    ],
)
def test_a_strangers_index_is_refused(data, error, says):
    with pytest.raises(error, match=says):
        parse(data)


def test_names_that_differ_in_capitals_only_are_refused():
    twice = json.loads(dumps(index(entry("a"))))
    files = {f"checkpoints/A.{suffix}": {"size": 1, "sha256": "0" * 64} for suffix in ("json", "safetensors")}
    twice["checkpoints"].append({**twice["checkpoints"][0], "name": "A", "files": files})
    with pytest.raises(MetadataError, match="twice"):
        parse(json.dumps(twice).encode())


def test_what_a_stranger_says_of_a_checkpoint_is_taken_where_it_has_the_right_type():
    data = broken(
        checkpoints__0={
            **json.loads(dumps(index(entry("a"))))["checkpoints"][0],
            "score": "0.5",
            "epoch": True,
            "evals": [],
            "more": 1,
        }
    )
    read = parse(data).entries[-1]
    assert (read.score, read.epoch, read.evals) == (None, None, {})


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda below: st.lists(below) | st.dictionaries(st.text(), below),
        max_leaves=10,
    ),
    st.sampled_from(
        [
            "root",
            "checkpoints",
            "checkpoints__0",
            "checkpoints__1__files",
            "checkpoints__1__evals",
            "checkpoints__0__name",
        ]
    ),
)
def test_a_broken_index_is_refused_with_our_errors(value, place):
    try:
        read = parse(broken(**{place: value}))
    except MettaHubError:
        return
    assert parse(dumps(read)) == read


# --- entries --------------------------------------------------------------------------------------------


def test_the_entry_of_spoiled_metadata():
    known = metadata.from_values(
        {"epoch": "3", "score": "high", "evals": [1], "avg_reward": "0.625", "run_name": "model_0003.pt"}
    )
    made = history.entry_of("a", known, parameters=5, files={}, published_at=NOW)
    assert (made.epoch, made.agent_step, made.score, made.avg_reward, made.evals) == (3, None, None, 0.625, {})
    assert made.run_name is None


@pytest.mark.parametrize(
    ("values", "run_name"),
    [
        ({"run_name": "hearts.lstm"}, "hearts.lstm"),
        ({"run_name": "model_0003.pt", "run": "fast.small_s1"}, "fast.small_s1"),
        ({"run_name": "model_0003.pt"}, None),
        ({"run_name": 5}, None),
        ({}, None),
    ],
)
def test_the_run_of_an_entry(values, run_name):
    made = history.entry_of("a", metadata.from_values(values), parameters=5, files={}, published_at=NOW)
    assert made.run_name == run_name


# --- putting --------------------------------------------------------------------------------------------


def root_entry(name, **fields):
    files = {
        names.metadata_file(name): RECORD,
        names.recipe_file(name): RECORD,
        names.ROOT_WEIGHTS: RECORD,
        names.root_pt(name): RECORD,
    }
    return entry(name, files=files, **fields)


def test_a_new_root_sends_the_old_one_below():
    before = put(index(), root_entry("a", epoch=1), root=True)
    after = put(before, root_entry("b", epoch=2), root=True)
    assert after.root == "b"
    assert set(after.entries[0].files) == {"checkpoints/a.json", "checkpoints/a.recipe", "checkpoints/a.safetensors"}
    assert set(after.entries[1].files) == {"checkpoints/b.json", "checkpoints/b.recipe", "model.safetensors", "b.pt"}
    assert parse(dumps(after)) == after


def test_without_a_recipe_the_pt_of_an_old_root_stays():
    old = entry("a", files={names.ROOT_WEIGHTS: RECORD, names.root_pt("a"): RECORD})
    assert set(history.below(old).files) == {"checkpoints/a.safetensors", "checkpoints/a.pt"}
    assert history.below(history.below(old)) == history.below(old)


def test_put_without_root_leaves_the_root():
    before = put(index(), root_entry("a", epoch=1), root=True)
    after = put(before, root_entry("b", epoch=2), root=False)
    assert after.root == "a"
    assert "model.safetensors" in after.entries[0].files
    assert "model.safetensors" not in after.entries[1].files
    again = put(after, root_entry("a", epoch=1), root=False)
    assert again == after


def test_the_time_of_publication_stays_while_nothing_else_changes():
    before = put(index(), root_entry("a", epoch=1), root=True)
    later = "2027-01-01T00:00:00Z"
    assert put(before, root_entry("a", epoch=1, published_at=later), root=True) == before
    assert put(before, root_entry("a", epoch=2, published_at=later), root=True).entries[0].published_at == later
    demoted = put(before, root_entry("b"), root=True)
    assert put(demoted, root_entry("a", epoch=1, published_at=later), root=True).entries[0].published_at == NOW


def test_a_name_in_other_capitals_is_refused():
    with pytest.raises(ConflictError, match="capitals"):
        put(index(entry("Model_1")), entry("model_1"), root=False)


# --- measuring ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("score", 0.5),
        ("evals.category_scores.navigation", 0.25),
        ("category_scores.navigation", 0.25),
        ("navigation", 0.25),
        ("navigation/easy", 0.125),
        ("hearts.lstm", 7),
        ("evals.hearts.lstm", 7),
        ("memory", 0.75),
        ("eval_scores.memory", 0.75),
        ("agent_step", None),
        ("evals", None),
        ("text", None),
        ("won", None),
        ("nan", None),
        ("none", None),
        ("", None),
        (".", None),
        ("evals..x", None),
        ("name", None),
        ("files.size", None),
    ],
)
def test_metrics(path, value):
    one = entry(
        score=0.5,
        evals={
            "category_scores": {"navigation": 0.25},
            "simulation_scores": {"navigation": 9, "navigation/easy": 0.125},
            "hearts.lstm": 7,
            "text": "0.5",
            "won": True,
            "nan": float("nan"),
        },
        eval_scores={"memory": 0.75, "hearts.lstm": 8},
    )
    assert metric(one, path) == value


def test_best_is_by_the_first_measure_that_any_has():
    a, b, c = entry("a", epoch=1), entry("b", epoch=2), entry("c", epoch=3)
    assert named(ranked([a, b, c])) == ["c", "b", "a"]
    b = replace(b, avg_reward=1.0)
    assert named(ranked([a, b, c])) == ["b", "c", "a"]
    a = replace(a, evals={"x": 0.0, "y": {"z": 1.0}})
    assert named(ranked([a, b, c])) == ["a", "c", "b"]
    c = replace(c, score=-5.0)
    assert named(ranked([a, b, c])) == ["c", "b", "a"]


def test_ties_go_to_the_later_epoch_then_step_then_name():
    made = [
        entry("a", epoch=1, score=1.0),
        entry("b", epoch=2, score=1.0),
        entry("c", epoch=2, agent_step=5, score=1.0),
        entry("d", epoch=2, agent_step=5, score=1.0),
        entry("e", score=1.0),
        entry("f", epoch=9),
    ]
    assert named(ranked(made)) == ["d", "c", "b", "a", "e", "f"]
    assert named(ranked(reversed(made))) == named(ranked(made))


def test_lowest_puts_the_missing_last_too():
    made = [entry("a", evals={"loss": 2}), entry("b", evals={"loss": "n/a"}), entry("c", evals={"loss": -1})]
    assert named(ranked(made, "loss", lowest=True)) == ["c", "a", "b"]
    assert named(ranked(made, "loss")) == ["a", "c", "b"]


# --- choosing -------------------------------------------------------------------------------------------

THREE = index(
    entry("Model_0001", epoch=1, avg_reward=1.0, reward_sem=0.3, evals={"maze": 1.0}),
    entry("Model_0002", epoch=2, avg_reward=3.0, reward_sem=0.3, evals={"maze": 3.0}),
    entry("Model_0003", epoch=3, avg_reward=2.6, reward_sem=0.3, evals={"maze": 2.6}),
    root="Model_0001",
)


@pytest.mark.parametrize(
    ("selector", "name", "why"),
    [
        (None, "Model_0001", "the root of the repo"),
        ("latest", "Model_0003", "latest of 3: epoch 3"),
        ("best", "Model_0002", "best of 3 by mean of evals; 1 other is within its error"),
        ("best=maze", "Model_0002", "best of 3 by maze; 1 other is within its error"),
        ("min=maze", "Model_0001", "lowest of 3 by maze"),
        ("best=epoch", "Model_0003", "best of 3 by epoch"),
        ("epoch=2", "Model_0002", "epoch 2"),
        ("epoch=002", "Model_0002", "epoch 2"),
        ("model_0002", "Model_0002", "asked for by name"),
    ],
)
def test_selectors(selector, name, why):
    choice = select(THREE, selector)
    assert (choice.entry.name, choice.why) == (name, why)


@pytest.mark.parametrize(
    ("selector", "error", "hint"),
    [
        ("model_002", NotFoundError, "did you mean"),
        ("unlike", NotFoundError, "there is Model_0003, Model_0002, Model_0001"),
        ("epoch=9", NotFoundError, "the nearest are 1, 2, 3"),
        ("best=mazes", NotFoundError, "there is avg_reward, evals.maze"),
        ("epoch=two", UsageError, "epoch=140"),
        ("epoch=" + "9" * 5000, UsageError, "epoch=140"),
        ("best=", NotFoundError, "there is"),
        ("max=maze", NotFoundError, "there is"),
    ],
)
def test_selectors_that_find_nothing_say_what_there_is(selector, error, hint):
    with pytest.raises(error) as caught:
        select(THREE, selector)
    assert hint in caught.value.hint


def test_no_checkpoint_and_no_root():
    with pytest.raises(NotFoundError, match="no checkpoint yet"):
        select(index(), None)
    with pytest.raises(NotFoundError, match="root"):
        select(replace(THREE, root=None), None)


def test_what_decides_is_said_when_measures_are_missing():
    assert (
        select(index(entry("a"), entry("b")), "best").why
        == "latest of 2, as none has a score, evals or avg_reward, no epoch is known"
    )
    assert select(index(entry("a", score=1.0), entry("b")), "best").why == "best of 1 by score; 1 without it"
    assert select(index(entry("a"), entry("b")), "latest").entry.name == "b"


def test_the_error_of_avg_reward_says_nothing_of_another_number():
    made = index(
        entry("a", score=1.0, avg_reward=5.0, reward_sem=9.0), entry("b", score=0.9, avg_reward=4.0, reward_sem=9.0)
    )
    assert select(made, "best").why == "best of 2 by score"
    assert select(made, "best=avg_reward").why == "best of 2 by avg_reward; 1 other is within its error"


def test_without_standard_errors_nothing_is_said_of_them():
    made = index(entry("a", avg_reward=1.0, reward_sem=1.0), entry("b", avg_reward=1.0))
    assert select(made, "best").why == "best of 2 by avg_reward"


def test_two_checkpoints_of_one_epoch():
    made = index(entry("a", epoch=1, agent_step=5), entry("b", epoch=1, agent_step=4))
    assert select(made, "epoch=1").entry.name == "a"
    assert select(made, "epoch=1").why == "epoch 1, the later of 2 with it"


def test_a_strangers_names_of_metrics_are_not_printed_raw():
    with pytest.raises(NotFoundError) as caught:
        select(index(entry("a", evals={"\x1b[31mred": 1, "x" * 500: 1, "fine": 1})), "best=nope")
    assert caught.value.hint == "there is evals.fine"


@pytest.mark.skipif(not RUN, reason="the recorded run is not here")
def test_the_recorded_run():
    made = Index(None, ())
    for path in RUN:
        known = metadata.parse(path.read_bytes(), path)
        one = history.entry_of(
            path.stem, known, parameters=167_942, files=root_entry(path.stem).files, published_at=NOW
        )
        made = put(made, one, root=True)
    best = select(parse(dumps(made)), "best")
    assert (best.entry.epoch, best.why) == (140, "best of 11 by mean of evals; 5 others are within its error")
    assert select(made, "latest").entry.epoch == 202
