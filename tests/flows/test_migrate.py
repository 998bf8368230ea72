"""migrate: every old file that holds a policy becomes a pair; the rest stays, with a reason."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

import metta_hub
from containers import foreign
from containers.builders import raw
from flows import opcodes
from metta_hub import errors
from metta_hub.containers import torch_zip
from support import DATA, SHARED, as_anybody, killed_at_change, start

METTA = SHARED / "metta"
RECORD = DATA / "records" / "model_0005.pt"
needs_shared = pytest.mark.skipif(not METTA.is_dir(), reason="the shared folder is not beside the project")

#: The files of a genuine tree that hold a policy in an old format.
OLD = [*METTA.glob("*/*/old/*.pt"), *METTA.glob("eras/*/*.pt.old"), *METTA.glob("eras/*/old/*.pt")]
WRAPPED = [path for path in METTA.glob("*/*/legacy/*.pt") if path.parent.parent.name != "two_action_sets_s4"]
ERAS = [
    path
    for path in METTA.glob("eras/*/model_*.pt")
    if ".new." not in path.name and path.parent.name != "pair_from_module_migrator"
]


@pytest.fixture
def old(tmp_path):
    """A folder with a record, a plain state dict, what a trainer left, and a file that is broken."""
    folder = tmp_path / "checkpoints"
    (folder / "more").mkdir(parents=True)
    shutil.copy(RECORD, folder / "model_0005.pt")
    shutil.copy(RECORD, folder / "more" / "model_0006.pt")
    torch.save({"weight": torch.ones(2)}, folder / "plain.pt")
    torch.save({"optimizer_state_dict": {"state": {}}, "epoch": 7}, folder / "trainer_state.pt")
    (folder / "notes.txt").write_text("nothing")
    return folder


def loaded(pt):
    return {name: raw(tensor) for name, tensor in torch.load(pt, weights_only=True, map_location="cpu").items()}


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the genuine files ---


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    if not METTA.is_dir():
        pytest.skip("the shared folder is not beside the project")
    out = tmp_path_factory.mktemp("migrated")
    done = subprocess.run(
        [sys.executable, "-m", "metta_hub", "migrate", str(METTA), "--output", str(out), "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    return out, json.loads(done.stdout)


@needs_shared
def test_every_old_file_that_holds_a_policy_is_migrated_and_nothing_else(everything):
    _, done = everything
    assert {item["source"] for item in done["migrated"]} == {str(path) for path in {*OLD, *WRAPPED, *ERAS}}
    assert done["failed"] == []
    reasons = {Path(item["source"]): item["reason"] for item in done["skipped"]}
    bare = METTA / "fast/two_action_sets_s4/legacy/model_0012.pt"
    assert reasons[bare] == reasons[METTA / "simple_box/small_s50/state_dict.pt"] == "already a state dict"
    trainer = METTA / "latent_attn_tiny/small_s11/trainer_state.pt"
    assert reasons[trainer] == "a trainer's state, and not a policy"
    others = {reason for path, reason in reasons.items() if path != trainer}
    assert others == {"already a state dict", "a pair already"}
    assert len(done["migrated"]) == 30


def expected_weights(source):
    """By an independent reading: torch's own, of stand-ins for Metta's classes."""
    copy = source.with_name("state_dict_for_comparison.pt")
    if copy.exists():
        return loaded(copy)
    if source.parent.name == "legacy":
        held = torch.load(source, weights_only=True, map_location="cpu")
        found = held.get("model_state_dict", held.get("state_dict"))
    else:
        found = foreign.state_dict_of(source)
    return {name: raw(tensor) for name, tensor in found.items()}


def genuine_pair(source):
    """The pair that Metta itself made of a file, if it lies beside it."""
    name = source.name.removesuffix(".old").removesuffix(".pt")
    places = (source.parent.parent / "pair" / f"{name}.pt", source.parent / f"{name}.new.pt")
    if source.suffix == ".old":
        places = (source.with_suffix(""),)
    return next((path for path in places if path.exists() and path != source), None)


@needs_shared
@pytest.mark.parametrize("source", [*OLD, *WRAPPED, *ERAS], ids=lambda path: str(path.relative_to(METTA)))
def test_every_tensor_is_what_the_old_file_has(everything, source):
    out, done = everything
    item = next(item for item in done["migrated"] if item["source"] == str(source))
    found = loaded(item["target"])
    assert list(found.items()) == list(expected_weights(source).items())
    assert Path(item["target"]).parent == out / source.parent.relative_to(METTA)
    genuine = genuine_pair(source)
    if genuine is not None:
        prefix = "".join(item["stripped"])
        assert {f"{prefix}{name}": data for name, data in found.items()} == loaded(genuine)


@needs_shared
def test_every_old_file_is_verified_as_it_is():
    failed = [path for path in (*OLD, *WRAPPED, *ERAS) if not metta_hub.verify(path).ok]
    assert failed == []


@needs_shared
def test_prefixes_that_were_stripped_are_reported(everything):
    _, done = everything
    stripped = {Path(item["source"]).parent.name: item["stripped"] for item in done["migrated"] if item["stripped"]}
    assert stripped == {
        "compiled_optimized_module": ["_orig_mod."],
        "ddp_distributed_metta_agent": ["module."],
        "ddp_plain": ["module."],
    }
    target = next(item["target"] for item in done["migrated"] if "compiled" in item["source"])
    assert json.loads(Path(target).with_suffix(".json").read_text())["metta_hub"]["stripped"] == ["_orig_mod."]


def document_of(done, source):
    target = next(item["target"] for item in done["migrated"] if item["source"] == str(source))
    return json.loads(Path(target).with_suffix(".json").read_text())


# What Metta's own JSON has as a text, because it was no Python number, with its true type.
TRUE = {"1572864": 1572864, "0.5": 0.5, "0.625": 0.625, "tensor(0.2500)": 0.25, "[0 1 2]": [0, 1, 2]}


def truly(value):
    if isinstance(value, dict):
        return {key: truly(item) for key, item in value.items()}
    return TRUE.get(value, value) if isinstance(value, str) else value


@needs_shared
@pytest.mark.parametrize(
    "source", [path for path in OLD if "/eras/" not in str(path)], ids=lambda path: str(path.relative_to(METTA))
)
def test_metadata_have_every_value_with_its_true_type(everything, source):
    """Compared with the genuine pair, in which only numpy's and torch's numbers became texts."""
    _, done = everything
    found = document_of(done, source)
    if source.parts[-4] == "simple_box":  # of which there is no pair: what torch finds in it
        expected = foreign.attributes_of(source)["metadata"]
        assert {key: found[key] for key in expected} == expected
        return
    expected = truly(json.loads((source.parent.parent / "pair" / source.name).with_suffix(".json").read_text()))
    del expected["uri"]
    info = expected.pop("model_info")
    assert {key: found[key] for key in expected} == expected
    assert [type(found[key]) for key in expected] == [type(value) for value in expected.values()]
    assert {key: found["model_info"][key] for key in info} == info
    assert found["metta_hub"]["added"] == [f"/model_info/{key}" for key in found["model_info"] if key not in info]


@needs_shared
@pytest.mark.parametrize(
    "source",
    [
        path
        for path in (*OLD, *ERAS)
        if (path.parent / "config.yaml").exists() or (path.parents[1] / "config.yaml").exists()
    ],
    ids=lambda path: str(path.relative_to(METTA)),
)
def test_the_component_graph_is_the_configuration(everything, source):
    """Equal where the file holds it; where it is rebuilt, the same components, sources and sizes."""
    _, done = everything
    place = next(folder for folder in (source.parent, source.parent.parent) if (folder / "config.yaml").exists())
    config = yaml.safe_load((place / "config.yaml").read_text())
    found = document_of(done, source)["model_info"]["architecture"]
    rebuilt = {"agent_module_2025_03_20", "pickle_policy_record_2025_07_01", "torch_package_2025_06_23", "small_s50"}
    if place.name not in rebuilt:
        assert found == config
        assert "rebuilt" not in document_of(done, source)["metta_hub"]
        return
    assert document_of(done, source)["metta_hub"]["rebuilt"] == ["/model_info/architecture"]
    assert found["_target_"] == config["_target_"]
    assert list(found["components"]) == list(config["components"])
    for name, component in config["components"].items():
        mine = found["components"][name]
        assert mine["_target_"] == component["_target_"]
        for key in ("sources", "input_source", "nn_params", "output_size", "nonlinearity"):
            if key in component:
                assert mine[key] == component[key], (name, key)


@needs_shared
def test_what_a_policy_cannot_be_rebuilt_without_is_there(everything):
    _, done = everything
    for source in OLD:
        info = document_of(done, source)["model_info"]
        where = next((folder for folder in source.parents[:2] if (folder / "env.json").exists()), None)
        if where is None:
            continue
        env = json.loads((where / "env.json").read_text())
        assert info["observation_space"] == {"type": "Box", "shape": env["obs_shape"], "dtype": "uint8"}
        if "unactivated" in str(source):
            assert "action_max_params" not in info
            assert info["action_embedding_rows"] == {}
        else:
            assert info["action_max_params"] == env["action_max_params"]
            if "reserved_action_embeds" in env:  # which simple_box does not tell
                assert info["action_embedding_rows"] == env["reserved_action_embeds"]


# --- what people do with it ---


def test_a_pair_lies_beside_the_old_file_and_a_second_run_migrates_nothing(old, cli):
    before = files(old)
    first = cli("migrate", old)
    assert "✓ Migrated 2 checkpoints" in first.stdout
    assert {name: content for name, content in files(old).items() if name in before} == before
    assert sorted(files(old).keys() - before.keys()) == [
        "model_0005.new.json",
        "model_0005.new.pt",
        "more/model_0006.new.json",
        "more/model_0006.new.pt",
    ]
    after = files(old)
    second = cli("migrate", old)
    assert "✓ Migrated 0 checkpoints" in second.stdout
    assert files(old) == after


def test_a_dry_run_lists_what_a_real_run_does_and_writes_nothing(old, cli):
    (old / "broken.pt").write_bytes(RECORD.read_bytes()[:50_000])
    before = files(old)
    planned = json.loads(cli("migrate", old, "--dry-run", "--json", code=1).stdout)
    assert files(old) == before
    done = json.loads(cli("migrate", old, "--json", code=1).stdout)
    assert planned == done
    assert [Path(item["source"]).name for item in done["failed"]] == ["broken.pt"]
    assert len(done["migrated"]) == 2


def test_a_pair_takes_the_old_files_name_and_the_old_file_is_kept(old, cli):
    cli("migrate", old, "--replace")
    assert (old / "model_0005.pt.old").read_bytes() == RECORD.read_bytes()
    found = metta_hub.inspect(old / "model_0005.pt")
    assert (found.format, found.pickle.plain) == ("pair", True)
    assert json.loads((old / "model_0005.json").read_text())["uri"] == f"file://{old.resolve()}/model_0005.pt"
    after = files(old)
    second = json.loads(cli("migrate", old, "--replace", "--json").stdout)
    assert second["migrated"] == []
    assert files(old) == after
    assert {"a backup: of model_0005.pt", "a pair already"} <= {item["reason"] for item in second["skipped"]}


def test_without_a_backup_only_the_pair_is_left(old, cli):
    cli("migrate", old, "--replace", "--no-backup")
    assert sorted(path.name for path in old.glob("model*")) == ["model_0005.json", "model_0005.pt"]


def test_another_backup_is_never_overwritten(old, cli):
    (old / "model_0005.pt.old").write_bytes(b"something else")
    failed = cli("migrate", old / "model_0005.pt", "--replace", code=1)
    assert "model_0005.pt.old is there already, and is another file" in failed.stdout
    assert (old / "model_0005.pt").read_bytes() == RECORD.read_bytes()
    assert not (old / "model_0005.json").exists()
    assert not list(old.glob(".*"))


def test_nothing_is_replaced_that_does_not_come_back_equal(old, monkeypatch):
    """The new pair is read again and compared before it is renamed."""
    written = torch_zip.write

    def spoiled(weights, path, **options):
        done = written(weights, path, **options)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return done

    monkeypatch.setattr(torch_zip, "write", spoiled)
    done = metta_hub.migrate(old / "model_0005.pt", replace=True)
    assert len(done.failed) == 1
    assert (old / "model_0005.pt").read_bytes() == RECORD.read_bytes()
    assert not list(old.glob("model_0005.json"))
    assert not list(old.glob(".*"))


def test_what_is_in_the_way_stays(old, cli):
    (old / "model_0005.new.json").write_text("{}")
    failed = cli("migrate", old / "model_0005.pt", code=1)
    assert "is there already, and is not the pair of model_0005.pt" in failed.stdout
    assert (old / "model_0005.new.json").read_text() == "{}"


def test_several_processes_do_what_one_does(old, tmp_path, cli):
    for number in range(10, 40):
        shutil.copy(RECORD, old / f"model_{number:04}.pt")
    (old / "broken.pt").write_bytes(b"PK\x03\x04 broken")
    one = json.loads(cli("migrate", old, "--output", tmp_path / "one", "--json", code=1).stdout)
    two = json.loads(cli("migrate", old, "--output", tmp_path / "two", "--jobs", "2", "--json", code=1).stdout)
    assert [item["source"] for item in one["migrated"]] == [item["source"] for item in two["migrated"]]
    assert one["failed"] == two["failed"]
    assert len(one["migrated"]) == 32
    same = {name: content for name, content in files(tmp_path / "one").items() if name.endswith(".pt")}
    assert same == {name: content for name, content in files(tmp_path / "two").items() if name.endswith(".pt")}


def test_two_old_files_of_one_name_are_never_taken_for_each_other(old, tmp_path):
    """The second fails each time, and is never said to be migrated."""
    torch.save({"model_state_dict": {"w": torch.ones(2)}}, old / "model_0005.pth")
    for _ in range(2):
        done = metta_hub.migrate(old, output=tmp_path / "out")
        assert [item.source.name for item in done.failed] == ["model_0005.pth"]


def test_names_that_no_checkpoint_could_have_are_kept(tmp_path):
    """Long ones, other alphabets, a colon: each old file has a pair of its own, under its own name."""
    stems = [f"{'x' * 95}__e5__s1__t2__sc3", f"{'x' * 95}__e10__s1__t2__sc3", "모델", "정책", "run:v5", "a b"]
    for stem in stems:
        shutil.copy(RECORD, tmp_path / f"{stem}.pt")
    done = metta_hub.migrate(tmp_path)
    assert done.failed == ()
    assert {item.target.name for item in done.migrated} == {f"{stem}.new.pt" for stem in stems}
    assert metta_hub.migrate(tmp_path).migrated == ()
    replaced = metta_hub.migrate(tmp_path, replace=True)
    assert replaced.failed == ()
    assert all((tmp_path / f"{stem}.pt.old").read_bytes() == RECORD.read_bytes() for stem in stems)
    assert all(metta_hub.verify(tmp_path / f"{stem}.pt").ok for stem in stems)


def test_a_file_that_was_replaced_since_is_not_said_to_be_migrated(old):
    metta_hub.migrate(old)
    torch.save({"model_state_dict": {"w": torch.ones(2)}}, old / "model_0005.pt")
    done = metta_hub.migrate(old)
    assert [item.source.name for item in done.failed] == ["model_0005.pt"]
    assert "is the pair of another file" in done.failed[0].error


def test_what_is_not_in_the_pair_is_said(tmp_path, cli):
    torch.save({"model_state_dict": {"w": torch.ones(2)}, "epoch": 1, "optimizer_state_dict": {}}, tmp_path / "m.pt")
    shown = cli("migrate", tmp_path, "--dry-run").stdout
    assert "Left out, since it is no part of a policy: optimizer_state_dict." in shown


def test_links_are_left(old):
    (old / "last.pt").symlink_to("model_0005.pt")
    done = metta_hub.migrate(old, replace=True)
    assert any("a symbolic link" in item.reason for item in done.skipped)
    assert (old / "last.pt").is_symlink()
    assert not (old / "last.pt.old").exists()


def test_what_failed_is_said_also_when_quiet(old, cli):
    quiet = cli("migrate", old, "--output", old / "notes.txt" / "out", "-q", code=1)
    assert quiet.stdout == ""
    assert quiet.stderr.count("Error: ") == 2


def test_a_dry_run_foresees_what_is_in_the_way_of_a_backup(old):
    torch.save({"w": torch.ones(2)}, old / "model_0005.pt.old")
    planned = metta_hub.migrate(old, replace=True, dry_run=True)
    assert [item.source.name for item in planned.failed] == ["model_0005.pt"]
    with pytest.raises(errors.UsageError, match="the folder of the old files"):
        metta_hub.migrate(old, output=old)


def test_an_agent_that_was_pickled_alone_has_its_facts_in_its_name(tmp_path):
    """As Metta wrote them in September 2025: the module itself, the numbers in the file's name."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    for name in ("jack.nav__e5__s1234__t67__sc4321.pt", "jack.nav:v5.pt"):
        torch.save(module, tmp_path / name)
    done = metta_hub.migrate(tmp_path)
    assert done.failed == ()
    documents = {item.source.name: json.loads(item.target.with_suffix(".json").read_text()) for item in done.migrated}
    facts = documents["jack.nav__e5__s1234__t67__sc4321.pt"]
    told = {key: facts[key] for key in ("epoch", "agent_step", "train_time", "score", "run")}
    assert told == {"epoch": 5, "agent_step": 1234, "train_time": 67.0, "score": 0.4321, "run": "jack.nav"}
    assert (documents["jack.nav:v5.pt"]["epoch"], documents["jack.nav:v5.pt"]["run"]) == (5, "jack.nav")
    for item in done.migrated:
        assert loaded(item.target) == {name: raw(tensor) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("value", [3.7, True, [1], {"a": 1}])
def test_a_required_value_that_is_no_number_stands_apart(tmp_path, cli, value):
    """A record or a wrapped dict is not refused for it; that it was not kept is said."""
    path = tmp_path / "model_0001.pt"
    path.write_bytes(opcodes.pt(opcodes.record({"epoch": value, "agent_step": 2, "generation": 0, "train_time": 1.5})))
    torch.save({"model_state_dict": {"w": torch.ones(2)}, "epoch": value, "agent_step": 7}, tmp_path / "wrapped.pt")
    assert cli("migrate", tmp_path).stdout.count("/epoch is not kept as it was") == 2
    document = json.loads((tmp_path / "model_0001.new.json").read_text())
    assert (document["epoch"], document["agent_step"], document["displaced"]) == (None, 2, {"epoch": value})
    assert json.loads((tmp_path / "wrapped.new.json").read_text())["agent_step"] == 7


def test_metadata_under_the_names_of_other_things_stand_apart(tmp_path):
    path = tmp_path / "model_0001.pt"
    path.write_bytes(opcodes.pt(opcodes.record({"epoch": 1, "model_info": "mine", "metta_hub": [1], "uri": "s3://x"})))
    (done,) = metta_hub.migrate(path).migrated
    document = json.loads(done.target.with_suffix(".json").read_text())
    assert document["displaced"] == {"model_info": "mine", "metta_hub": [1], "uri": "s3://x"}
    assert document["model_info"]["type"] == "MettaAgent"
    assert document["metta_hub"]["format_version"] == 1


@pytest.mark.parametrize("stem", ["latest", "best", "index"])
def test_names_that_mean_something_else_are_migrated(tmp_path, stem):
    shutil.copy(RECORD, tmp_path / f"{stem}.pt")
    (done,) = metta_hub.migrate(tmp_path).migrated
    assert done.target == tmp_path / f"{stem}.new.pt"
    (again,) = metta_hub.migrate(tmp_path, replace=True).migrated
    assert again.target == tmp_path / f"{stem}.pt"


def test_tied_and_transient_tensors_are_as_state_dict_has_them(tmp_path):
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2, bias=False)})
    module["b"].weight = module["a"].weight
    module["a"].register_buffer("kept", torch.arange(3))
    module["a"].register_buffer("scratch", torch.arange(4), persistent=False)
    module["a"].register_buffer("none", None)
    module["a"].register_parameter("absent", None)
    torch.save(module, tmp_path / "module.pt")
    done = metta_hub.migrate(tmp_path)
    state = torch.load(done.migrated[0].target, weights_only=True)
    assert list(state) == list(module.state_dict())
    assert state["a.weight"].data_ptr() == state["b.weight"].data_ptr()


def test_a_wrapped_dict_keeps_what_is_metadata_and_names_what_is_not(tmp_path, cli):
    path = tmp_path / "nav.pt"
    values = {"epoch": 3, "agent_step": 5, "lr": 0.1, "scheduler": {"step": 2}, "action_space_nvec": [3, 4]}
    torch.save({"state_dict": {"module.w": torch.ones(2)}, **values}, path)
    done = metta_hub.migrate(path)
    document = json.loads(done.migrated[0].target.with_suffix(".json").read_text())
    assert (document["epoch"], document["agent_step"]) == (3, 5)
    assert document["model_info"]["agent_attributes"]["action_space"] == {"type": "MultiDiscrete", "nvec": [3, 4]}
    assert document["metta_hub"]["stripped"] == ["module."]
    assert list(loaded(done.migrated[0].target)) == ["w"]
    warnings = metta_hub.push(path, "org/wrapped", dry_run=True).warnings
    assert any("lr, scheduler" in warning for warning in warnings)


@pytest.mark.parametrize("layers", [1, 30, 200])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_weights_alone_under_a_key_are_wrapped_however_many_they_are(tmp_path, key, layers):
    module = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(layers)))
    torch.save({key: module.state_dict()}, tmp_path / "model_0001.pt")
    assert metta_hub.inspect(tmp_path / "model_0001.pt").format == "wrapped state dict"
    (done,) = metta_hub.migrate(tmp_path).migrated
    assert loaded(done.target) == {name: raw(tensor) for name, tensor in module.state_dict().items()}


def test_weights_that_come_after_a_long_optimizer_are_found(tmp_path):
    """Its first 4 kB look like what a trainer keeps to go on."""
    optimizer = {"state": {number: {"exp_avg": torch.ones(2)} for number in range(200)}}
    torch.save({"optimizer_state_dict": optimizer, "model_state_dict": {"w": torch.ones(3)}}, tmp_path / "late.pt")
    done = metta_hub.migrate(tmp_path)
    assert [item.source.name for item in done.migrated] == ["late.pt"]
    assert list(loaded(done.migrated[0].target)) == ["w"]


def test_the_documents_functions(old):
    assert metta_hub.migrate_all_checkpoints_in_dir(old) == [
        (str(old / "model_0005.pt"), str(old / "model_0005.new.pt")),
        (str(old / "more/model_0006.pt"), str(old / "more/model_0006.new.pt")),
    ]
    assert not (old / "model_0005.new.pt").exists()
    assert metta_hub.migrate_checkpoint(old / "model_0005.pt") == str(old / "model_0005.new.pt")
    assert metta_hub.migrate_checkpoint(old / "model_0005.pt", old / "elsewhere.pt") == str(old / "elsewhere.pt")
    with pytest.raises(errors.FileError, match="already a state dict"):
        metta_hub.migrate_checkpoint(old / "plain.pt")
    (old / "broken.pt").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(errors.MettaHubError, match="1 of 2 were not migrated"):
        metta_hub.migrate_all_checkpoints_in_dir(old, None, dry_run=False)
    assert (old / "more/model_0006.new.pt").exists()


def test_the_script_of_the_document(old):
    script = Path(__file__).parents[2] / "scripts" / "migrate_checkpoints.py"
    planned = subprocess.run(
        [sys.executable, str(script), str(old), "--dry-run", "--device", "cpu"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "Would migrate 2 checkpoints" in planned.stdout
    assert not (old / "model_0005.new.pt").exists()
    subprocess.run([sys.executable, str(script), str(old), "--replace"], check=True, capture_output=True)
    assert metta_hub.inspect(old / "model_0005.pt").format == "pair"
    missing = subprocess.run([sys.executable, str(script), str(old / "none")], capture_output=True, check=False)
    assert missing.returncode == 1


def test_options_that_contradict_each_other(old, cli):
    assert "exclude each other" in cli("migrate", old, "--replace", "--output", old / "out", code=2).stderr
    assert "cannot work" in cli("migrate", old, "--jobs", "0", code=2).stderr
    assert "There is no file or folder" in cli("migrate", old / "none", code=1).stderr


def test_a_place_that_cannot_be_written_to_fails_each_and_says_so(old, cli):
    failed = json.loads(cli("migrate", old, "--output", old / "notes.txt" / "out", "--json", code=1).stdout)
    assert [Path(item["source"]).name for item in failed["failed"]] == ["model_0005.pt", "model_0006.pt"]
    assert all("notes.txt" in item["error"] for item in failed["failed"])
    assert (old / "notes.txt").read_text() == "nothing"


def test_what_may_not_be_read_fails_with_what_to_do(old):
    (old / "model_0005.pt").chmod(0)
    (old / "more").chmod(0)
    done = as_anybody("migrate", old, "--json")
    listed = as_anybody("list", old)
    (old / "more").chmod(0o700)
    assert done.returncode == 1
    failed = json.loads(done.stdout)["failed"]
    assert {item["source"]: item["error"] for item in failed} == {
        str(path): f"{path}: Permission denied." for path in (old / "model_0005.pt", old / "more")
    }
    assert {item["hint"] for item in failed} == {"ask its owner, or copy it to where you may read it"}
    assert "Warning: model_0005.pt is left out: Permission denied." in listed.stderr


def test_a_rehearsal_foresees_a_folder_that_may_not_be_written_to(old):
    old.chmod(0o500)
    for options in (["--dry-run"], []):
        done = as_anybody("migrate", old / "model_0005.pt", "--json", *options)
        assert done.returncode == 1
        assert json.loads(done.stdout)["failed"][0]["error"] == f"{old} cannot be written to: Permission denied."


def test_a_json_beside_a_record_makes_no_pair_of_it(old, repo_id, cli):
    """Whoever keeps notes beside old files can publish them all the same."""
    (old / "model_0005.json").write_text('{"epoch": 3}')
    assert metta_hub.inspect(old / "model_0005.pt").format == "record"
    assert metta_hub.push(old / "model_0005.pt", repo_id).checkpoint == "model_0005"
    assert [file.publish for file in metta_hub.scan(old) if file.path.endswith("model_0005.pt")] == [True]
    assert "model_0005.json is there already" in metta_hub.migrate(old, replace=True).failed[0].error


def test_what_json_cannot_say_is_said(tmp_path, cli):
    metadata = opcodes.made("metta.agent.policy_metadata.PolicyMetadata") + opcodes.filled(
        [("epoch", 1), ("score", float("nan")), ("evals", opcodes.mapping([(1, 0.5), ("1", 0.7)])), ("displaced", 3)]
    )
    (tmp_path / "model_0001.pt").write_bytes(opcodes.pt(opcodes.record(metadata)))
    shown = cli("migrate", tmp_path).stdout
    assert "/score is not kept as it was: " in shown
    assert "/evals/1 is not kept as it was: another entry under the same name in JSON." in shown
    assert json.loads((tmp_path / "model_0001.new.json").read_text())["displaced"] == {"displaced": 3}


@pytest.mark.parametrize("arguments", [["--output", ""], ["--no-backup"]])
def test_options_that_would_do_something_else_than_was_meant(old, cli, arguments):
    cli("migrate", old, *arguments, code=2)
    assert not (old / "model_0005.new.pt").exists()


def test_a_link_to_nowhere_is_in_the_way_and_stays(old, tmp_path):
    (old / "model_0005.json").symlink_to("nowhere")
    assert "is there already" in metta_hub.migrate(old / "model_0005.pt", replace=True).failed[0].error
    assert (old / "model_0005.json").is_symlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_the_two_renames_waits(old, number):
    """Neither file of a pair without the other, and nothing hidden."""
    code = f"""
import os, signal, sys
from pathlib import Path
import metta_hub
from metta_hub.cli import failures
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs tests in the background may have ignored
replace = Path.replace
Path.replace = lambda self, target: (replace(self, target), os.kill(os.getpid(), {int(number)}))[0]
failures.stop_on_signals()
try:
    metta_hub.migrate({str(old / "model_0005.pt")!r})
except failures.Stopped as stopped:
    sys.exit(stopped.number)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == number, done.stderr
    assert {path.name for path in old.glob("*new*")} == {"model_0005.new.pt", "model_0005.new.json"}
    assert not [path for path in old.iterdir() if path.name.endswith(".tmp")]


def test_addresses_of_other_places_are_no_files_here(old, cli):
    for address, hint in [
        ("s3://bucket/runs", "metta-hub scan s3://bucket/runs"),
        ("hf://org/nav", "metta-hub pull hf://org/nav"),
    ]:
        assert hint in cli("migrate", address, code=2).stderr
    assert "metta-hub scan s3://bucket/a.pt" in cli("inspect", "s3://bucket/a.pt", code=2).stderr
    assert cli("migrate", f"file://{old}", "--dry-run").returncode == 0


def test_memory_stays_flat(tmp_path):
    """Weights are copied range by range: half a gigabyte takes no more memory than half a megabyte."""
    peaks = []
    for size in (1 << 17, 1 << 27):
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.zeros(size))
        torch.save(module, tmp_path / f"{size}.pt")
        code = "import sys; from metta_hub import migrate; assert migrate(sys.argv[1]).migrated\n"
        code += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"  # since it was started, in kB
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"{size}.pt")], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout) << 10)
    assert peaks[1] < 128 << 20
    assert peaks[1] - peaks[0] < 8 << 20


def test_what_lacks_required_metadata_is_replaced_all_the_same(tmp_path):
    path = tmp_path / "model_0007.pt"
    torch.save({"epoch": 7, "model_state_dict": {"weight": torch.ones(2)}}, path)
    assert metta_hub.migrate(path, replace=True).failed == ()
    assert metta_hub.inspect(path).unknown == ("agent_step", "generation", "train_time")


# --- killed ---


def state_of(folder, name):
    """A checkpoint is there as the old file or as a complete pair, whatever else lies beside it."""
    pt = folder / f"{name}.pt"
    if pt.read_bytes() == RECORD.read_bytes():
        return "old"
    assert metta_hub.inspect(pt).format == "pair"
    assert metta_hub.verify(pt).ok
    return "pair"


@pytest.mark.parametrize("options", [["--replace"], ["--replace", "--no-backup"], []])
def test_migrate_killed_before_each_of_its_changes_loses_nothing(tmp_path, options):
    number = 1
    while True:
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("a1", "a2"):
            shutil.copy(RECORD, folder / f"{name}.pt")
        killed = killed_at_change(folder, number, "-m", "metta_hub", "migrate", folder, *options)
        assert {state_of(folder, name) for name in ("a1", "a2")} <= {"old", "pair"}, number
        done = metta_hub.migrate(folder, replace=bool(options), backup="--no-backup" not in options)
        assert done.failed == ()
        suffix = ".pt" if options else ".new.pt"
        assert all(metta_hub.verify(folder / f"{name}{suffix}").ok for name in ("a1", "a2"))
        assert all((folder / f"{name}{suffix}").with_suffix(".json").exists() for name in ("a1", "a2"))
        assert not list(folder.glob(".*"))
        if not killed:
            break
        number += 1
    assert number > 5


def test_processes_that_migrate_go_with_the_one_that_started_them(tmp_path):
    for number in range(400):
        (tmp_path / f"model_{number:04}.pt").hardlink_to(RECORD)
    process = start("migrate", tmp_path, "--jobs", "2")
    while not list(tmp_path.glob("*.new.pt")):
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) >= 2
    process.kill()
    process.communicate(timeout=60)  # waits for everybody who could still write to its streams
    assert len(list(tmp_path.glob("*.new.pt"))) < 400


@pytest.mark.slow
def test_migrate_killed_at_thirty_random_moments_loses_nothing(tmp_path):
    seed = int(os.environ.get("METTA_HUB_SEED", random.SystemRandom().randrange(10**6)))
    dice, names, outcomes = random.Random(seed), [f"model_{number:04}" for number in range(50)], Counter()
    for turn in range(30):
        folder = tmp_path / str(turn)
        folder.mkdir()
        for name in names:
            shutil.copy(RECORD, folder / f"{name}.pt")
        process = start("migrate", folder, "--replace", "--jobs", "2" if turn % 3 == 0 else "1")
        while not (begun := any(folder.glob(".*.tmp"))) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.6) if begun else 0)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        states = Counter(state_of(folder, name) for name in names)
        outcomes.update(states)
        done = metta_hub.migrate(folder, replace=True)
        assert done.failed == (), seed
        assert all(metta_hub.verify(folder / f"{name}.pt").ok for name in names), seed
        assert all((folder / f"{name}.pt.old").read_bytes() == RECORD.read_bytes() for name in names), seed
        assert not list(folder.glob(".*")), seed
        shutil.rmtree(folder)
    print(f"\nseed {seed}: 30 kills, {dict(outcomes)}")
    assert outcomes["pair"] > 50
    assert outcomes["old"] > 50
