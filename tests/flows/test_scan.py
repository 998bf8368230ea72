"""scan: a survey of many files, which opens what it must and changes nothing."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bundles
import metta_hub
import trees
from catalogue import Markdown, Page
from metta_hub import formats, policies
from metta_hub.api import judging, migrating
from metta_hub.errors import MettaHubError
from support import DATA, SHARED, as_anybody, finish, start

PT = DATA / "run" / "model_000140.pt"


@pytest.fixture
def tree(tmp_path):
    folder = trees.one_of_each(tmp_path / "here" / "runs")
    trees.oddities(folder / "odd")
    return folder


def by_path(found, folder):
    return {str(Path(file.path).relative_to(folder)): file for file in found}


def regular_files(folder):
    """What `find` would say: every regular file by its name, and bytes of every one once."""
    states = [Path(where, name).lstat() for where, _, names in os.walk(folder) for name in names]
    regular = [state for state in states if state.st_mode & 0o170000 == 0o100000]
    return len(regular), sum({(state.st_dev, state.st_ino): state.st_size for state in regular}.values())


# --- what is found ------------------------------------------------------------------------------------------------


def test_every_kind_of_file_is_told_apart(tree):
    found = metta_hub.scan(tree)
    kinds = {path: (file.format, file.epoch, file.publish) for path, file in by_path(found, tree).items()}
    assert kinds == {
        "again.safetensors": ("safetensors", None, True),
        "broken/best.pt": ("state dict", None, True),
        "broken/cut.pt": ("damaged", None, False),
        "broken/cut.safetensors": ("damaged", None, False),
        "broken/empty.pt": ("damaged", None, False),
        "broken/layers.pt": ("not plain", None, False),
        "broken/noise.pt": ("unknown", None, False),
        "broken/pointer.pt": ("unknown", None, False),
        "broken/table.pkl": ("pickle", None, False),
        "bundles/nav:v12": ("bundle", 12, True),
        "bundles/nav:v13.zip": ("bundle", 13, True),
        "bundles/nav:v2.mpt": (".mpt", 2, True),
        "bundles/setup:v1": ("bundle", 1, False),
        "bundles/setup:v1/weights.pt": ("state dict", None, True),
        "large.safetensors.index.json": ("sharded safetensors", None, False),
        "odd/\033[31mred\n.pt": ("state dict", None, True),
        "odd/caf\udce9_0003.pt": ("state dict", 3, False),
        "old/late.pt": ("wrapped state dict", 7, True),
        "old/legacy.pth": ("state dict", None, True),
        "old/model_0005.pt": ("record", 5, True),
        "old/model_0006.pt": ("wrapped state dict", 6, True),
        "old/state_0008.pt": ("state dict", 8, True),
        "old/trainer_state.pt": ("trainer state", None, False),
        "run/model_000140.pt": ("pair", 140, True),
        "single.safetensors": ("safetensors", None, True),
    }


def test_what_is_no_checkpoint_is_counted(tree):
    found = metta_hub.scan(tree)
    list(found)
    totals = found.totals
    assert totals.complete
    assert (totals.files, totals.bytes) == regular_files(tree)
    assert (totals.links, totals.special, totals.other.files) == (3, 2, 4)
    assert (totals.duplicates.files, totals.duplicates.bytes) == (1, len(trees.safetensors()))
    assert totals.files == totals.other.files + sum(one.files for one in totals.formats)
    assert totals.bytes == totals.other.bytes + sum(one.bytes for one in totals.formats)
    assert totals.checkpoints == sum(one.checkpoints for one in totals.formats)


def read(path):
    """A checkpoint as push reads it, and None of what it refuses."""
    try:
        checkpoint = formats.read(path)
        judging.judge(checkpoint)
    except MettaHubError:
        return None
    return checkpoint


@pytest.mark.parametrize("folder", [DATA, *([SHARED] if SHARED.is_dir() else [])])
def test_it_says_of_real_files_what_reading_them_says(folder):
    """Format, epoch, architecture, whether push takes it and whether it runs: of every file, from its first bytes."""
    found = list(metta_hub.scan(folder))
    assert found
    for file in found:
        path = Path(file.path)
        checkpoint = read(path)
        assert file.publish is (checkpoint is not None), path
        assert file.describe is file.publish, path
        if checkpoint is not None:
            assert file.format == checkpoint.origin.format
            epoch = checkpoint.metadata.values.get("epoch")
            assert file.epoch == epoch, path
            if file.run:
                assert policies.build(checkpoint), path
                continue
            info = checkpoint.metadata.values.get("model_info") or {}
            words = {"first bytes do not say", "does not say", "no component graph", "agents of its time"}
            assert any(word in file.reason for word in {info.get("type", "does not say"), *words})


def test_it_says_of_made_files_what_reading_them_says(tree):
    for file in metta_hub.scan(tree):
        assert file.publish is (read(Path(file.path)) is not None), file


@pytest.mark.parametrize("folder", [DATA, *([SHARED] if SHARED.is_dir() else [])])
def test_it_finds_the_old_files_that_migrate_finds(folder):
    way = migrating.Way(folder, output=None, replace=False, backup=True, dry_run=True)
    plans = {str(plan.source) for plan in migrating.judge(folder, way) if isinstance(plan, migrating.Plan)}
    assert plans == {file.path for file in metta_hub.scan(folder) if file.migrate}


@pytest.mark.parametrize("options", [{}, {"replace": True}])
def test_what_is_migrated_is_not_said_to_need_it(tmp_path, cli, options):
    """Neither the old file beside its pair, nor the backup; a file that migrate does not look at never was."""
    for name in ("old.pt", "model.ckpt"):
        torch.save({"model_state_dict": {"w": torch.ones(2)}}, tmp_path / name)
    assert number_to_migrate(tmp_path) == 1
    assert "Next: metta-hub migrate" in cli("scan", tmp_path).stderr
    assert len(metta_hub.migrate(tmp_path, **options).migrated) == 1
    assert number_to_migrate(tmp_path) == 0
    assert "Next: metta-hub migrate" not in cli("scan", tmp_path).stderr


def number_to_migrate(folder):
    list(survey := metta_hub.scan(folder))
    return survey.totals.migrate


def _with_code(bundle):
    (bundle / "lib").mkdir()
    (bundle / "lib" / "torch.py").write_text("")


def _with_a_link(bundle):
    (bundle / "more").mkdir()
    (bundle / "more" / "out").symlink_to(bundle.parent)


@pytest.mark.parametrize(
    ("spoil", "reason"), [(_with_code, "it holds code, 'lib/torch.py'"), (_with_a_link, "'more/out' is a link")]
)
def test_a_bundle_is_judged_with_all_that_lies_below_it(tmp_path, spoil, reason):
    """As push judges it, in a store as on a disk."""
    spoil(bundles.folder(tmp_path / "nav:v1"))
    with pytest.raises(MettaHubError, match=reason):
        formats.read(tmp_path / "nav:v1")
    for place in (tmp_path, f"local://{tmp_path}") if spoil is _with_code else (tmp_path,):
        (found,) = [file for file in metta_hub.scan(place) if file.format == "bundle"]
        assert not found.publish
        assert reason in found.reason


def test_a_long_spec_is_read_as_push_reads_it(tmp_path):
    spec = tmp_path / "nav:v1" / "policy_spec.json"
    bundles.folder(spec.parent)
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"notes": "x" * 200_000}))
    assert formats.read(spec.parent).origin.format == "bundle"
    assert [file.publish for file in metta_hub.scan(tmp_path)] == [True]


def test_what_is_to_be_typed_next_can_be_typed(tmp_path, cli):
    shutil.copy(PT, tmp_path / "-x.pt")
    said = cli("scan", "--", "-x.pt", cwd=tmp_path).stderr
    assert "Next: metta-hub push ./-x.pt org/NAME" in said


def test_a_repo_folder_is_one_checkpoint(api, repo_id, tmp_path):
    metta_hub.push(PT, repo_id)
    metta_hub.push(DATA / "run" / "model_000020.pt", repo_id)
    folder = Path(api.snapshot_download(repo_id, local_dir=tmp_path / "tree" / "nav"))
    shutil.rmtree(folder / ".cache")
    (found,) = list(survey := metta_hub.scan(tmp_path))
    assert (found.format, found.epoch, found.publish) == ("repo folder", 20, True)
    assert (found.files, found.bytes) == regular_files(tmp_path) == (survey.totals.files, survey.totals.bytes)


def test_a_policy_that_somebody_builds_can_be_run(cli, run):
    code = (
        "import metta_hub, sys; metta_hub.register('LSTMPolicy', lambda info: None)\n"
        f"print([file.run for file in metta_hub.scan({str(run)!r}) if file.format == 'pair'])\n"
        "print({'torch', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[True, True, True]\nset()\n"


def test_a_runs_folder_lists_its_pairs_whatever_its_bundle_says(run):
    (run / "policy_spec.json").write_text(json.dumps(trees.SPEC | {"data_path": "model_000140.pt"}))
    assert {file.format for file in metta_hub.scan(run)} == {"pair"}


def test_a_record_beside_a_json_is_not_taken_for_more_than_push_takes(tmp_path):
    shutil.copy(DATA / "records" / "model_0005.pt", tmp_path / "model_0005.pt")
    shutil.copy(PT.with_suffix(".json"), tmp_path / "model_0005.json")
    (found,) = metta_hub.scan(tmp_path)
    assert (found.format, found.files) == ("record", 2)
    assert found.publish is (read(tmp_path / "model_0005.pt") is not None)


def test_a_pair_whose_json_is_of_another_pt(run):
    known = json.loads((run / "model_000140.json").read_text())
    known["metta_hub"] = {"format_version": 1, "weights": {"file": "model_000140.pt", "size": 3, "sha256": "0" * 64}}
    (run / "model_000140.json").write_text(json.dumps(known))
    (run / "model_000020.json").write_text("{")
    found = by_path(metta_hub.scan(run), run)
    assert "another size" in found["model_000140.pt"].reason
    assert "no metadata" in found["model_000020.pt"].reason
    for name in ("model_000140.pt", "model_000020.pt"):
        assert found[name].publish is (read(run / name) is not None) is False


@pytest.mark.parametrize("name", ["model_000140.pt", "model_000140.json"])
def test_one_file(run, name):
    (found,) = list(survey := metta_hub.scan(run / name))
    assert (found.path, found.format, found.files) == (str(run / "model_000140.pt"), "pair", 2)
    assert survey.totals.files == 2


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ({"data_path": "../weights.pt"}, {}),
        ({"data_path": "gone.pt"}, {}),
        ({"data_path": None}, {}),
        ({"class_path": 3}, {}),
        ({}, {"policy.py": b"import os"}),
        ({}, {"weights.pt": b"noise"}),
        ({}, {"weights.pt": trees.saved({"layers": {"a": 1}})}),
        ({"data_path": "deep/weights.pt"}, {"deep/weights.pt": trees.saved(trees.weights())}),
        ({"data_path": "weights.safetensors"}, {"weights.safetensors": trees.safetensors()}),
        ({"data_path": "weights.safetensors"}, {"weights.safetensors": trees.safetensors()[:-1]}),
    ],
)
def test_of_a_bundle_it_says_what_reading_it_says(tmp_path, spec, files):
    """Every trap but those that only all of its bytes tell; as a folder and as a zip."""
    members = {"policy_spec.json": json.dumps(trees.SPEC | spec).encode(), "weights.pt": trees.saved(trees.weights())}
    for name, content in (members | files).items():
        trees.put(tmp_path / "nav:v3" / name, content)
    found = by_path(metta_hub.scan(tmp_path), tmp_path)["nav:v3"]
    assert (found.format, found.epoch) == ("bundle", 3)
    assert found.publish is (read(tmp_path / "nav:v3") is not None)


def test_a_bundle_by_its_specification(tree):
    (found,) = metta_hub.scan(tree / "bundles/nav:v12/policy_spec.json")
    assert (found.path, found.format, found.files) == (str(tree / "bundles/nav:v12"), "bundle", 2)


# --- every file is counted once -----------------------------------------------------------------------------------

#: Names that mean something to one rule or another, and those that mean nothing.
NAMES = [
    "a.pt", "a.json", "a.pt.old", "a.safetensors", "a.safetensors.index.json", "a.safetensors.index.pt",
    "a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors", "a-00001-of-00002.json", "policy_spec.json",
    "policy_spec.pt", "index.json", "index.pt", ".pt", ".json", "README.md", "b", "a.PT", "A.JSON", "latest.mpt",
    "a.tmp", "\udce9.pt", "\udce9.json", "new\nline.pt", "new\nline.json",
]  # fmt: skip
FOLDERS = ["checkpoints", "a.pt", "x", "run:v3"]
CONTENTS = [
    b"", b"{}", b"noise", trees.saved(trees.weights(1)), trees.safetensors(1), trees.zipped(a="b"),
    json.dumps(trees.SPEC | {"data_path": "a.pt"}).encode(), json.dumps(trees.SPEC | {"data_path": "a.json"}).encode(),
    json.dumps(trees.SPEC | {"data_path": "policy_spec.json"}).encode(),
    json.dumps(trees.SPEC | {"data_path": "a.safetensors.index.json"}).encode(),
    json.dumps(trees.SPEC | {"data_path": "a-00001-of-00002.safetensors"}).encode(),
    json.dumps(trees.SPEC | {"data_path": "x/a.pt"}).encode(),
]  # fmt: skip
FILES = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=4), st.sampled_from(NAMES))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.dictionaries(FILES.map(lambda file: (*file[0], file[1])), st.sampled_from(CONTENTS), max_size=12))
def test_every_file_of_a_tree_is_counted_once_whatever_the_names(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("tree")
    for place, data in content.items():
        path = folder.joinpath(*place)
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            trees.put(path, data)
    found = metta_hub.scan(folder)
    entries = list(found)
    totals = found.totals
    assert (totals.files, totals.bytes) == regular_files(folder)
    assert totals.files == totals.other.files + sum(file.files for file in entries)
    assert totals.bytes == totals.other.bytes + sum(file.bytes for file in entries)
    assert min(totals.other.files, totals.other.bytes) >= 0
    assert len({file.path for file in entries}) == len(entries)
    shutil.rmtree(folder)


# --- what is printed ----------------------------------------------------------------------------------------------


def test_page(tree, tmp_path, repo_id, snapshot):
    page = Page("A survey", tmp_path / "here", repo_id)
    for what, *arguments in [
        ("A tree", "runs"),
        ("The same, for scripts: what can be published", "runs", "-q"),
        ("One file", "runs/run/model_000140.pt"),
        ("A pipe", "runs/odd/pipe.pt"),
        ("An empty folder", "empty"),
    ]:
        (tmp_path / "here" / "empty").mkdir(exist_ok=True)
        done = page.call("scan", *arguments)
        assert done.returncode == 0
        page.write(what, ["scan", *arguments], done)
    page.run("A tree that is not there", "scan", "run")
    page.run("Nothing of that name", "scan", "memory://runs/old")
    page.run("A repo", "scan", "hf://org/nav", code=2)
    page.run("A store that nobody knows", "scan", "nfs5://host/runs", code=2)
    page.check_hints()
    assert page.text() == snapshot.use_extension(Markdown)


def test_json_is_one_value_with_the_fields_of_the_library(cli, tree):
    value = json.loads(cli("scan", tree, "--json").stdout)
    found = metta_hub.scan(tree)
    assert [file["path"] for file in value["files"]] == [file.path for file in found]
    fields = {"path", "format", "era", "files", "bytes", "epoch", "publish", "describe", "run", "migrate", "reason"}
    assert all(set(file) == fields for file in value["files"])
    assert value["totals"]["complete"]
    assert value["totals"]["bytes"] == found.totals.bytes
    assert set(value) == {"files", "totals"}


def test_names_cannot_act_on_a_terminal(cli, tree):
    for arguments in (["scan", tree], ["scan", tree, "--json"], ["scan", tree, "-q"]):
        done = cli(*arguments)
        assert "\033" not in done.stdout + done.stderr


def interrupted(number, *arguments, after=0, env=None):
    """Start a survey, and send it a signal some seconds after it began to write: its exit code, and what it wrote."""
    process = start("scan", *arguments, env=env)
    out = process.stdout.read(1)
    time.sleep(after)
    process.send_signal(number)
    out += process.stdout.read()
    code, _, err = finish(process)
    return code, out, err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("after", [0, 0.5])
def test_the_json_of_an_interrupted_survey_is_whole(tmp_path, after, unbuffered):
    """Also when it waits for its reader in the middle of an entry, which `after` a while it does."""
    many = trees.linked(tmp_path / ("many" * 20), 20_000, DATA)
    for _ in range(3):
        code, out, err = interrupted(signal.SIGINT, many, "--json", after=after, env={"PYTHONUNBUFFERED": unbuffered})
        assert code == 130
        value = json.loads(out)
        assert value["totals"]["complete"] is False
        assert 0 < value["totals"]["files"] < 20_000
        assert err.startswith("Error: Stopped by SIGINT")


def test_an_interrupted_survey_shows_what_it_found(tmp_path):
    many = trees.linked(tmp_path / "many", 20_000, DATA)
    code, out, err = interrupted(signal.SIGTERM, many, "-q")
    assert code == 143
    assert out.startswith(str(many))
    assert "Stopped by SIGTERM" in err


# --- what is in the way -------------------------------------------------------------------------------------------


def test_what_may_not_be_read_is_said_and_the_rest_is_surveyed(run, tmp_path):
    shutil.copytree(run, tmp_path / "run" / "locked")
    (run / "model_000140.pt").chmod(0)
    (tmp_path / "run" / "locked").chmod(0)
    done = as_anybody("scan", run, "--json")
    (tmp_path / "run" / "locked").chmod(0o700)
    value = json.loads(done.stdout)
    assert len(value["files"]) == 2
    unreadable = value["totals"]["unreadable"]
    assert (unreadable["folders"], unreadable["files"]) == (1, 2)
    assert unreadable["examples"] == [
        [str(run / "locked"), "Permission denied"],
        [str(run / "model_000140.pt"), "Permission denied"],
    ]
    assert "1 folder and 2 files could not be read" in done.stderr


def test_a_tree_deeper_than_any_path_may_be(tmp_path):
    with contextlib.chdir(tmp_path):
        for _ in range(60):
            Path("d" * 100).mkdir()
            os.chdir("d" * 100)
    found = metta_hub.scan(tmp_path)
    assert list(found) == []
    assert found.totals.unreadable.folders == 1
    shutil.rmtree(tmp_path / ("d" * 100))


def test_a_folder_with_more_files_than_are_held_at_a_time(tmp_path, monkeypatch):
    from metta_hub.api.survey import local

    monkeypatch.setattr(local, "AT_ONCE", 3)
    tree = trees.one_of_each(tmp_path / "tree")
    few = {path: file.format for path, file in by_path(metta_hub.scan(tree), tree).items()}
    monkeypatch.undo()
    assert few == {path: file.format for path, file in by_path(metta_hub.scan(tree), tree).items()}


@pytest.mark.slow
def test_a_hundred_thousand_files_in_less_than_100_mb(tmp_path):
    """Hard links of the fixtures; they hold little in common but for their bytes, which nobody remembers."""
    sources = [trees.one_of_each(tmp_path / "made"), DATA, *([SHARED] if SHARED.is_dir() else [])]
    many = trees.linked(tmp_path / "many", 100_000, *sources)
    code = (
        f"import sys; sys.argv = ['metta-hub', 'scan', {str(many)!r}, '--json']\n"
        "from pathlib import Path; from metta_hub.cli import main\n"
        "try: main()\n"
        "finally: print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kilobytes = int(done.stderr)
    print(f"{time.monotonic() - begun:.1f} s, {kilobytes:,} kB")
    assert json.loads(done.stdout)["totals"]["files"] == 100_000
    assert kilobytes < 100_000
