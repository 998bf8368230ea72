"""Today's Metta bundles: in as folder, zip and .mpt, published, and out again as Metta's loader wants them."""

import json
import os
import random
import shutil
import stat
import subprocess
import sys
import zipfile

import pytest
import torch

import bundles
import metta_hub
import support
from bundles import HEAD, LSTM, PT
from catalogue import Markdown, Page
from containers.builders import filled, raw
from metta_hub import formats
from metta_hub.containers import copying, inflating, safetensors
from metta_hub.errors import ConflictError, FormatError, MetadataError, NotPlainError
from metta_hub.formats import bundle
from support import DATA

NAME = "hearts.lstm:v140"


def published_pair(repo_id, folder):
    pulled = metta_hub.pull(repo_id, folder)
    return pulled, json.loads(pulled.json.read_text())


def tensors_of(path):
    """Names and values as bytes, by our own reading."""
    weights = formats.read(path).weights
    return {info.name: bytes(copying.read_tensor(weights, info)) for info in weights.tensors}


@pytest.fixture(params=["folder", "stored", "deflated", "head", "head deflated", "mpt"])
def any_bundle(request, tmp_path):
    """A bundle of each kind, its spec, and its tensors by the library that wrote them."""
    kind, place = request.param, tmp_path / "made"
    if kind == "mpt":
        path = bundles.mpt(tmp_path / "run.a:v3.mpt")
        with zipfile.ZipFile(path) as archive:
            assert set(archive.namelist()) == {"weights.safetensors", "modelarchitecture.txt"}
        return path, HEAD, {"w": filled((3, 4))}
    state = {"b.weight": filled((3, 4)), "a.bias": filled((5,), "int64", 1)}
    state = state if "head" in kind else torch.load(PT, weights_only=True)
    spec = HEAD if "head" in kind else LSTM
    source = bundles.head(place / NAME, state) if "head" in kind else bundles.folder(place / NAME)
    if kind in {"folder", "head"}:
        return source, spec, state
    method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
    return bundles.zipped(source, place / f"{NAME}.zip", method=method), spec, state


# --- in -------------------------------------------------------------------------------------------------------------


def test_it_is_read_with_its_spec_and_its_tensors(any_bundle):
    path, spec, state = any_bundle
    found = formats.read(path)
    assert {info.name: bytes(copying.read_tensor(found.weights, info)) for info in found.weights.tensors} == {
        name: raw(tensor) for name, tensor in state.items()
    }
    values = found.metadata.values
    if path.suffix == ".mpt":
        spec = {**HEAD, "init_kwargs": {"architecture_spec": bundles.ARCHITECTURE, "device": "cpu"}}
        assert (found.name, values["run_name"], values["epoch"]) == ("run.a_v3", "run.a", 3)
    else:
        assert (found.name, values["run_name"], values["epoch"]) == ("hearts.lstm_v140", "hearts.lstm", 140)
    assert values["metta_bundle"] == spec
    module, _, kind = spec["class_path"].rpartition(".")
    assert (values["model_info"]["module_name"], values["model_info"]["type"]) == (module, kind)
    assert found.metadata.unknown == ("agent_step", "generation", "train_time")


def test_it_is_published_pulled_and_exported_again(any_bundle, repo_id, tmp_path):
    path, spec, state = any_bundle
    pushed = metta_hub.push(path, repo_id)
    assert pushed.checkpoint == formats.read(path).name
    assert metta_hub.verify(repo_id).ok
    assert not metta_hub.push(path, repo_id).changed
    pulled, document = published_pair(repo_id, tmp_path / "pulled")
    assert document["metta_bundle"] == spec
    assert document["metta_hub"]["original_name"] in {NAME, "run.a:v3"}
    for source in (repo_id, pulled.pt):
        exported = metta_hub.export(source, tmp_path / "out" / f"{pulled.sha256.pt[:4]}{len(str(source))}:v1")
        assert json.loads((exported.path / "policy_spec.json").read_text()) == spec
        read = bundles.loaded(exported.path)
        assert {name: raw(tensor) for name, tensor in read.items()} == {
            name: raw(tensor) for name, tensor in state.items()
        }


def test_the_authors_own_pt_comes_back_bit_for_bit_even_out_of_a_zip(repo_id, tmp_path, api):
    source = bundles.folder(tmp_path / "made" / NAME)
    for number, path in enumerate([source, bundles.zipped(source, tmp_path / f"{NAME}.zip")]):
        repo = f"{repo_id}-{number}"
        metta_hub.push(path, repo)
        assert "hearts.lstm_v140.pt" in api.list_repo_files(repo)
        pulled, _ = published_pair(repo, tmp_path / f"pulled{number}")
        assert pulled.identical
        assert pulled.pt.read_bytes() == PT.read_bytes()
        metta_hub.push(DATA / "run" / "model_000202.pt", repo)  # now a recipe is all that is left of it
        exported = metta_hub.export(f"{repo}:hearts.lstm_v140", tmp_path / f"out{number}" / NAME)
        assert (exported.path / "weights.pt").read_bytes() == PT.read_bytes()
        assert (exported.path / "policy_spec.json").read_bytes() == (source / "policy_spec.json").read_bytes()


def test_a_bundle_of_metta_itself_is_exported_byte_for_byte(tmp_path):
    source = bundles.head(tmp_path / "made" / "myrun:v12")
    exported = metta_hub.export(source, tmp_path / "out")
    assert exported.path == tmp_path / "out" / "myrun:v12"
    for name in ("policy_spec.json", "weights.safetensors"):
        assert (exported.path / name).read_bytes() == (source / name).read_bytes()


def test_a_zip_by_another_program_is_read(tmp_path):
    """Info-ZIP notes times and owners beside each member."""
    if not shutil.which("zip"):
        pytest.skip("Info-ZIP's zip is not installed")
    source = bundles.folder(tmp_path / "made" / NAME)
    subprocess.run(["zip", "-q", "-r", tmp_path / f"{NAME}.zip", "."], cwd=source, check=True)
    assert tensors_of(tmp_path / f"{NAME}.zip") == tensors_of(source)
    assert metta_hub.verify(tmp_path / f"{NAME}.zip").ok


@pytest.mark.parametrize("extra", [b"UT\5\0\1\0\0\0\0", b"ux\4\0\1\0\0\0", b"UT\5\0\1\0\0\0\0ux\4\0\1\0\0\0"])
def test_a_zip_with_notes_beside_its_members_is_read_and_a_pt_with_them_is_not(extra, tmp_path):
    def noted(source, target):
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            for info in old.infolist():
                again = zipfile.ZipInfo(info.filename)
                again.extra = extra
                new.writestr(again, old.read(info))
        return target

    source = bundles.folder(tmp_path / "made" / NAME)
    zipped = bundles.zipped(source, tmp_path / "plain.zip")
    assert tensors_of(noted(zipped, tmp_path / f"{NAME}.zip")) == tensors_of(source)
    with pytest.raises(FormatError, match="never writes"):
        formats.read(noted(PT, tmp_path / "model_0001.pt"))


def test_every_command_takes_one(cli, repo_id, tmp_path):
    source = bundles.folder(tmp_path / "here" / NAME)
    zipped = bundles.zipped(source, tmp_path / "here" / f"{NAME}.zip")
    for path in (source, zipped):
        assert json.loads(cli("inspect", path, "--json").stdout)["format"] == "bundle"
        verified = json.loads(cli("verify", path, "--json").stdout)
        assert [check["ok"] for check in verified["checks"]] == [True, True, None]
        assert json.loads(cli("list", path, "--json").stdout)[0]["epoch"] == 140
        assert "LSTMPolicy" in cli("card", path).stdout
        assert cli("verify", path, source).stdout.endswith("ok\n")
    listed = json.loads(cli("list", source.parent, "--json").stdout)
    assert [one["checkpoint"] for one in listed] == ["hearts.lstm_v140"] * 2
    cli("push", source, repo_id)
    exported = json.loads(cli("export", repo_id, "--bundle", "out", "--json").stdout)
    assert set(exported) == {"path", "files"}
    assert exported["path"].endswith(f"here/out/{NAME}.zip")
    assert [set(file) for file in exported["files"]] == [{"path", "size", "sha256"}] * 2


def test_names_and_epochs(tmp_path):
    """`RUN:vN` by the last ':v'; else the weights' own name, if it has an epoch; else no epoch, whatever digits."""
    told = {
        "run:v1:v2": ("run_v1_v2", "run:v1", 2),
        "run:v007": ("run_v007", "run", 7),
        "a.b.20260110.120000:v5": ("a.b.20260110.120000_v5", "a.b.20260110.120000", 5),
        "run:v-1": ("run_v-1", None, None),
        "179543519602": ("179543519602", None, None),
        "policy": ("policy", None, None),
    }
    for called, (name, run, epoch) in told.items():
        for path in (bundles.folder(tmp_path / called), bundles.zipped(tmp_path / called, tmp_path / f"{called}.zip")):
            found = formats.read(path)
            values = found.metadata.values
            assert (found.name, values.get("run_name"), values.get("epoch")) == (name, run, epoch)
    trained = bundles.folder(tmp_path / "179543519603", {**LSTM, "data_path": "model_000202.pt"})
    assert (formats.read(trained).name, formats.read(trained).metadata.values["epoch"]) == ("model_000202", 202)


def test_a_folder_with_several_checkpoints_is_a_run_and_its_spec_names_the_bundle(run, repo_id):
    spec = {**LSTM, "data_path": "model_000202.pt"}
    (run / "policy_spec.json").write_text(bundles.spec_text(spec))
    assert not bundle.sniff(run)
    with pytest.raises(FormatError, match="nor a bundle"):
        metta_hub.push(run, repo_id)
    found = formats.read(run / "policy_spec.json")
    assert (found.name, found.origin.format, found.origin.pt) == ("model_000202", "bundle", run / "model_000202.pt")
    assert formats.read(run / "model_000140.pt").origin.format == "pair"
    assert metta_hub.push(run / "policy_spec.json", repo_id).checkpoint == "model_000202"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"epoch": 140, "agent_step": 700, "avg_reward": 1.5}, {"agent_step": 700, "avg_reward": 1.5}),
        ({"epoch": 139, "agent_step": 700, "avg_reward": 1.5}, {}),
        ({"model_name": "weights.pt", "agent_step": 700}, {"agent_step": 700}),
        ({"model_name": "model_000139.pt", "agent_step": 700}, {}),
        ({"epoch": 140, "agent_step": "700", "avg_reward": torch.ones(1)}, {}),
        ({"epoch": True, "agent_step": 700}, {}),
        ([140, 700], {}),
    ],
)
def test_the_trainers_state_tells_of_this_very_epoch_or_nothing(state, told, tmp_path, repo_id, api):
    path = bundles.folder(tmp_path / NAME)
    torch.save(state, path / "trainer_state.pt")
    values = formats.read(path).metadata.values
    assert {key: values[key] for key in ("agent_step", "avg_reward") if key in values} == told
    metta_hub.push(path, repo_id)
    assert not [name for name in api.list_repo_files(repo_id) if "trainer" in name]


def test_what_an_environment_tells_stands_where_pairs_have_it(tmp_path):
    values = formats.read(bundles.folder(tmp_path / NAME)).metadata.values
    assert values["action_names"] == LSTM["policy_env_interface"]["action_names"]
    assert values["model_info"]["agent_attributes"] == {
        "observation_space": {"type": "Box", "shape": [48, 3], "dtype": "uint8"},
        "action_space": {"type": "Discrete", "n": 5},
    }


def test_home_paths_in_a_spec_are_cut_and_tokens_stop_the_push(tmp_path, repo_id):
    home = {**LSTM, "init_kwargs": {"config": "/home/alice1/config.yaml"}}
    pushed = metta_hub.push(bundles.folder(tmp_path / "a:v1", home), repo_id)
    assert [one.pointer for one in pushed.redactions] == ["/metta_bundle/init_kwargs/config"]
    secret = {**LSTM, "init_kwargs": {"key": "hf_" + "A1b2" * 9}}
    with pytest.raises(metta_hub.MettaHubError, match="/metta_bundle/init_kwargs/key holds what looks like"):
        metta_hub.push(bundles.folder(tmp_path / "b:v1", secret), repo_id)


# --- the traps of policy-bundles.md, section 4 ----------------------------------------------------------------------


def test_trap_1_another_zip_never_takes_a_zips_place_unnoticed(tmp_path):
    """Metta unpacks a zip once for each path: overwritten, it would go on loading the old weights."""
    one = bundles.folder(tmp_path / NAME)
    other = bundles.folder(tmp_path / "b" / NAME, weights=DATA / "run" / "model_000202.pt")
    out, said = tmp_path / "out" / f"{NAME}.zip", []
    metta_hub.export(one, out)
    before = out.read_bytes()
    metta_hub.export(one, out)  # equal: nothing happens
    with pytest.raises(ConflictError, match="holds something else"):
        metta_hub.export(other, out)
    assert out.read_bytes() == before
    metta_hub.export(other, out, force=True, report=lambda *told: said.append(told))
    assert out.read_bytes() != before
    assert [text for verb, text in said if verb == "warning" and "mettagrid-policy-cache" in text]


def test_trap_2_links_of_a_cache_keep_the_name_and_do_not_lead_out(tmp_path):
    """The Hub's cache keeps files as blobs, and links to them: Metta follows those, and loses name and suffix."""
    source = bundles.zipped(bundles.folder(tmp_path / "made"), tmp_path / "blob")
    link = tmp_path / "snapshot" / f"{NAME}.zip"
    link.parent.mkdir()
    link.symlink_to(source)
    assert formats.read(link).metadata.values["epoch"] == 140
    folder = bundles.folder(tmp_path / "elsewhere")
    reached = tmp_path / "snapshot" / NAME
    reached.symlink_to(folder)
    assert formats.read(reached).metadata.values["run_name"] == "hearts.lstm"
    (folder / "weights.pt").rename(folder / "real")
    (folder / "weights.pt").symlink_to("real")
    assert formats.read(folder).weights.tensors
    (folder / "weights.pt").unlink()
    (folder / "weights.pt").symlink_to(PT)
    with pytest.raises(FormatError, match=r"'weights\.pt' is a link that leads out of it"):
        formats.read(folder)
    exported = metta_hub.export(link, tmp_path / "out" / "x:v1")
    assert not any(path.is_symlink() for path in [exported.path, *exported.path.iterdir()])


ESCAPES = [
    "/etc/passwd",
    "../other/weights.pt",
    "a/../../weights.pt",
    "~/weights.pt",
    "C:\\weights.pt",
    "..\\weights.pt",
]


@pytest.mark.parametrize("data_path", ESCAPES)
def test_trap_3_no_data_path_leads_out_of_the_bundle(data_path, tmp_path):
    path = bundles.folder(tmp_path / "made" / NAME)
    (tmp_path / "other").mkdir()
    shutil.copy(PT, tmp_path / "other" / "weights.pt")
    (path / "policy_spec.json").write_text(bundles.spec_text({**LSTM, "data_path": data_path}))
    for one in (path, bundles.zipped(path, tmp_path / f"{NAME}.zip")):
        with pytest.raises(FormatError, match=r"its data_path .* (is absolute|may lead out)"):
            formats.read(one)


@pytest.mark.parametrize("data_path", ["policy_spec.json", "", ".", "a\0b", "x" * 300, "weights.py", "é" * 128])
def test_a_data_path_that_names_no_weights_is_refused(data_path, tmp_path):
    shutil.copy(PT, tmp_path / "model_0001.pt")
    spec = {**LSTM, "data_path": data_path}
    (tmp_path / "model_0001.json").write_text(json.dumps({"epoch": 1, "run_name": "r", "metta_bundle": spec}))
    path = bundles.folder(tmp_path / NAME)
    (path / "policy_spec.json").write_text(bundles.spec_text(spec))
    for look in (lambda: formats.read(path), lambda: metta_hub.export(tmp_path / "model_0001.pt", tmp_path / "out")):
        with pytest.raises(FormatError, match=r"names no file of weights|holds code"):
            look()


def test_trap_3_nothing_is_run_and_code_is_refused(tmp_path, repo_id, api):
    ran = tmp_path / "ran"
    script = f"open({str(ran)!r}, 'w')".encode()
    told = {
        "setup": (bundles.folder(tmp_path / "a:v1", {**LSTM, "setup_script": "setup.py"}), "its setup_script"),
        "beside": (bundles.folder(tmp_path / "b:v1", mettagrid_dot_py=script), "it holds code, 'mettagrid.py'"),
        "deep": (bundles.folder(tmp_path / "c:v1", lib__torch__init_dot_PY=script), "it holds code"),
        "compiled": (bundles.folder(tmp_path / "d:v1", torch_dot_pyc=script), "it holds code"),
    }
    for path, says in told.values():
        for one in (path, bundles.zipped(path, tmp_path / f"{path.name}.zip")):
            with pytest.raises(FormatError, match=says):
                metta_hub.push(one, repo_id)
    assert not ran.exists()
    assert not api.repo_exists(repo_id)


def test_trap_3_a_spec_in_a_repo_is_judged_like_any_other(tmp_path):
    shutil.copy(PT, tmp_path / "model_0001.pt")
    for spoiled, says in (({"setup_script": "x.py"}, "setup_script"), ({"data_path": "../x"}, "may lead out")):
        document = {"epoch": 1, "run_name": "r", "metta_bundle": {**LSTM, **spoiled}}
        (tmp_path / "model_0001.json").write_text(json.dumps(document))
        with pytest.raises(FormatError, match=says):
            metta_hub.export(tmp_path / "model_0001.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_trap_4_what_torch_reads_is_a_pt_with_its_suffix(tmp_path):
    """mettagrid's policies call torch.load, which goes by the suffix; before 2.13 it read no safetensors at all."""
    from_safetensors = tmp_path / "policy_0007.safetensors"
    shutil.copy(bundles.head(tmp_path / "made" / "x:v1") / "weights.safetensors", from_safetensors)
    exported = metta_hub.export(
        from_safetensors, tmp_path / "out", run="r", class_path="mettagrid.policy.lstm.LSTMPolicy"
    )
    assert (exported.path.name, [file.path for file in exported.files]) == ("r:v7", ["policy_spec.json", "weights.pt"])
    loaded = torch.load(exported.path / "weights.pt", weights_only=True)
    assert raw(loaded["b.weight"]) == raw(filled((3, 4)))


def test_trap_5_strided_and_tied_tensors_are_written_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"turned": base.t(), "tied": base, "again": base, "part": base[:, ::2]}
    torch.save(state, tmp_path / "odd_0001.pt")
    out = tmp_path / "out"
    exported = metta_hub.export(tmp_path / "odd_0001.pt", out, run="r", architecture_spec=bundles.ARCHITECTURE)
    loaded = bundles.loaded(exported.path)
    assert {name: raw(tensor) for name, tensor in loaded.items()} == {name: raw(t) for name, t in state.items()}
    assert len({tensor.untyped_storage().data_ptr() for tensor in loaded.values()}) == len(state)
    assert sorted(path.name for path in out.rglob("*")) == ["policy_spec.json", "r:v1", "weights.safetensors"]
    assert b"__metadata__" not in (exported.path / "weights.safetensors").read_bytes()


def test_trap_6_files_have_the_mode_that_the_umask_says_and_no_trainers_state(tmp_path):
    source = bundles.folder(tmp_path / NAME, trainer_state_dot_pt=b"optimizer")
    former = os.umask(0o027)
    try:
        exported = [metta_hub.export(source, tmp_path / "out" / name).path for name in ("r:v1", "r.zip")]
    finally:
        os.umask(former)
    made = [exported[0] / "policy_spec.json", exported[0] / "weights.pt", exported[1]]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o640] * 3
    assert stat.S_IMODE(exported[0].stat().st_mode) == 0o750
    assert sorted(path.name for path in exported[0].iterdir()) == ["policy_spec.json", "weights.pt"]
    with zipfile.ZipFile(exported[1]) as archive:
        assert [(info.filename, info.external_attr >> 16) for info in archive.infolist()] == [
            ("policy_spec.json", 0o100644),
            ("weights.pt", 0o100644),
        ]


def test_trap_7_fields_that_come_and_go_with_versions_are_kept(tmp_path, repo_id):
    spec = {**LSTM, "of_tomorrow": [1, None, {"deep": True}]}
    metta_hub.push(bundles.folder(tmp_path / NAME, spec), repo_id)
    exported = metta_hub.export(repo_id, tmp_path / "out" / "x:v1")
    assert (exported.path / "policy_spec.json").read_text() == bundles.spec_text(spec)


def test_trap_8_what_is_compared_are_the_files_tensors(tmp_path, repo_id):
    """A loaded policy has rewritten some of its buffers; the files of both ends have not."""
    source = bundles.head(tmp_path / "made" / "myrun:v12")
    metta_hub.push(source, repo_id)
    exported = metta_hub.export(repo_id, tmp_path / "out")
    compared = metta_hub.verify(source, exported.path)
    assert compared.ok, compared
    assert "tensors" in [check.name for check in compared.checks]


# --- out ------------------------------------------------------------------------------------------------------------


def test_a_zip_is_byte_equal_when_exported_twice_and_in_another_process(any_bundle, tmp_path, cli):
    path, _, _ = any_bundle
    outs = [tmp_path / f"{number}.zip" for number in range(3)]
    for out in outs[:2]:
        metta_hub.export(path, out)
    cli("export", path, "--bundle", outs[2], env={"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "1"})
    assert len({out.read_bytes() for out in outs}) == 1
    assert tensors_of(outs[0]) == tensors_of(path)
    with zipfile.ZipFile(outs[0]) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("run", ["hearts", "a:v1", "prefix.user.20260110.120000", "naïve (1)"])
def test_the_name_says_run_and_epoch_to_metta_of_any_version(run, tmp_path):
    source = bundles.folder(tmp_path / f"{run}:v5")
    exported = metta_hub.export(source, tmp_path / "out").path
    assert exported.suffix == (".zip" if "." in run else exported.suffix)
    assert bundles.as_metta_of_january_2026_reads(exported) == (run, 5)


def test_run_and_epoch_can_be_said_and_an_exact_place_needs_neither(tmp_path):
    shutil.copy(PT, tmp_path / "policy.pt")
    class_path = "mettagrid.policy.lstm.LSTMPolicy"
    out = tmp_path / "out"
    with pytest.raises(MetadataError, match="/run_name: is not known"):
        metta_hub.export(tmp_path / "policy.pt", out, class_path=class_path)
    with pytest.raises(MetadataError, match="/epoch: is not known"):
        metta_hub.export(tmp_path / "policy.pt", out, class_path=class_path, run="r")
    exported = metta_hub.export(tmp_path / "policy.pt", out, class_path=class_path, run="r", epoch=4)
    assert exported.path == out / "r:v4"
    for place in (out / "s:v5", out / "t.x:v6", out / "u.zip"):
        assert metta_hub.export(tmp_path / "policy.pt", place, class_path=class_path).path == place


@pytest.mark.parametrize("run", ["a/b", "../x", ".hidden", "", "a\0b", "x" * 250])
def test_a_run_of_an_impossible_name_is_refused(run, tmp_path):
    shutil.copy(PT, tmp_path / "model_0001.pt")
    (tmp_path / "model_0001.json").write_text(json.dumps({"epoch": 1, "run_name": run, "metta_bundle": LSTM}))
    with pytest.raises(metta_hub.MettaHubError, match=r"cannot name|is not known"):
        metta_hub.export(tmp_path / "model_0001.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_spec_in_a_runs_folder_is_that_of_its_pairs(run, tmp_path):
    (run / "policy_spec.json").write_text(bundles.spec_text({**LSTM, "data_path": "model_000202.pt"}))
    exported = metta_hub.export(run / "model_000140.pt", tmp_path / "out")
    assert exported.path.name == f"{NAME}.zip"
    found = formats.read(exported.path)
    assert found.metadata.values["metta_bundle"] == {**LSTM, "data_path": "model_000202.pt"}
    assert copying.digest(run / "model_000140.pt").sha256 in {file.sha256 for file in exported.files}
    (run / "policy_spec.json").write_text(bundles.spec_text({**LSTM, "class_path": "another.Policy"}))
    with pytest.raises(MetadataError, match="which class runs these weights"):
        metta_hub.export(run / "model_000140.pt", tmp_path / "out")


def test_what_the_user_says_of_the_class_wins(run, tmp_path, cli):
    (tmp_path / "arguments.json").write_text('{"size": 3}')
    (tmp_path / "architecture.txt").write_text(bundles.ARCHITECTURE + "\n")

    def spec(*options):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}:v1"
        cli("export", run / "model_000140.pt", "--bundle", out, *options)
        return json.loads((out / "policy_spec.json").read_text())

    plain = {"data_path": "weights.pt", "setup_script": None}
    own = {"class_path": HEAD["class_path"], "data_path": "weights.safetensors", "setup_script": None}
    arguments = tmp_path / "arguments.json"
    assert spec("--class-path", "a.B") == plain | {"class_path": "a.B", "init_kwargs": {}}
    assert spec("--class-path", "a.B", "--init-kwargs", arguments)["init_kwargs"] == {"size": 3}
    assert spec("--class-path", "a.B", "--init-kwargs", '{"x": [1]}')["init_kwargs"] == {"x": [1]}
    for text in (bundles.ARCHITECTURE, tmp_path / "architecture.txt"):
        assert spec("--architecture-spec", text) == own | {
            "init_kwargs": {"architecture_spec": bundles.ARCHITECTURE, "device": "cpu"}
        }
    more = spec("--architecture-spec", bundles.ARCHITECTURE, "--init-kwargs", '{"device": "cuda"}')
    assert more["init_kwargs"] == {"architecture_spec": bundles.ARCHITECTURE, "device": "cuda"}


def test_files_of_somebody_else_are_never_replaced(tmp_path):
    one = bundles.folder(tmp_path / NAME)
    other = bundles.folder(tmp_path / "b" / NAME, weights=DATA / "run" / "model_000202.pt")
    out = tmp_path / "out" / "r:v1"
    metta_hub.export(one, out)
    with pytest.raises(ConflictError, match="holds something else"):
        metta_hub.export(other, out)
    metta_hub.export(other, out, force=True)
    assert (out / "weights.pt").read_bytes() == (DATA / "run" / "model_000202.pt").read_bytes()
    (out / "trainer_state.pt").write_text("precious")
    metta_hub.export(other, out)  # equal, and something more
    with pytest.raises(ConflictError, match=r"other files, too: trainer_state\.pt"):
        metta_hub.export(one, out, force=True)
    assert (out / "trainer_state.pt").read_text() == "precious"
    (tmp_path / "file:v1").write_text("mine")
    (tmp_path / "folder.zip").mkdir()
    for place in ("file:v1", "folder.zip"):
        with pytest.raises(ConflictError, match=r"is a (file|folder)"):
            metta_hub.export(one, tmp_path / place, force=True)
    assert sorted(path.name for path in out.parent.iterdir()) == ["r:v1"]


@pytest.mark.parametrize("name", ["r:v1", "r.zip"])
def test_an_export_that_is_killed_leaves_the_former_bundle_or_the_new_one(name, tmp_path):
    one = bundles.folder(tmp_path / "one:v1")
    other = bundles.folder(tmp_path / "two:v1", weights=DATA / "run" / "model_000202.pt")
    out = tmp_path / "out" / name
    equal = [tensors_of(one), tensors_of(other)]
    for number in range(1, 60):
        shutil.rmtree(out.parent, ignore_errors=True)
        metta_hub.export(one, out)
        came = support.killed_at_change(
            out.parent, number, "-m", "metta_hub", "export", other, "--bundle", out, "--force"
        )
        held = [path for path in [out, *out.parent.glob(f".{name}.*/former")] if path.exists()]
        assert next(tensors_of(path) for path in held if bundle.sniff(path)) in equal
        metta_hub.export(other, out, force=True)
        assert tensors_of(out) == equal[1]
        assert sorted(path.name for path in out.parent.iterdir()) == [name]
        if not came:
            return
    raise AssertionError("it never came to its end")


# --- large ones ---


def many_in_one_member(path, tensors, size):
    """A zip with one deflated safetensors file of so many tensors of so many bytes, about a tenth of that when packed.

    Made by hand: a writer that needs the tensors in memory would take what the reader must not.
    """
    entries = {
        f"t{number:06}": {"dtype": "U8", "shape": [size], "data_offsets": [number * size, (number + 1) * size]}
        for number in range(tensors)
    }
    header = json.dumps(entries).encode()
    block = random.Random(1).randbytes(size // 10).ljust(size, b"\0")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy_spec.json", bundles.spec_text(HEAD))
        with archive.open("weights.safetensors", "w") as member:
            member.write(len(header).to_bytes(8, "little") + header)
            for _ in range(tensors):
                member.write(block)
    return path


def test_a_member_of_many_tensors_is_inflated_once_for_each_piece_of_work(tmp_path, monkeypatch):
    path, inflated, spilled = many_in_one_member(tmp_path / "r:v1.zip", 2_000, 1_000), [], inflating.spilled
    monkeypatch.setattr(inflating, "spilled", lambda whole: inflated.append(whole) or spilled(whole))
    table = formats.read(path).weights
    assert len(inflated) == 0  # the header tells all
    safetensors.write(table, tmp_path / "mirror")
    assert len(inflated) == 1
    assert all(result.equal for result in copying.compare(table, safetensors.read(tmp_path / "mirror")))
    assert len(inflated) == 2


def test_memory_stays_flat(tmp_path):
    """Deflated weights of 300 MB take no more memory than those of 3 MB; nothing is left of what was inflated."""
    peaks = []
    for size in (30_000, 3_000_000):
        path = many_in_one_member(tmp_path / f"r:v{size}.zip", 100, size)
        code = "import sys; from metta_hub import export; export(*sys.argv[1:])\n"
        code += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"  # in kB
        command = [sys.executable, "-c", code, path, tmp_path / f"{size}.zip"]
        temporary = tmp_path / "temporary"
        temporary.mkdir(exist_ok=True)
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(temporary)}
        )
        peaks.append(int(done.stdout) << 10)
        assert list(temporary.iterdir()) == []
    assert peaks[1] < 128 << 20
    assert peaks[1] - peaks[0] < 16 << 20


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path, hub, repo_id, snapshot):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(DATA / "run", here / "run")
    made = Page("Bundles", here, repo_id, json_too=True)
    yield made
    made.check_hints()
    assert made.text() == snapshot.use_extension(Markdown)


def _spec(here, name, **fields):
    bundles.folder(here / name, {**LSTM, **fields}, weights=None)
    if isinstance(fields.get("data_path", "weights.pt"), str):
        shutil.copy(PT, here / name / "weights.pt")
    return name


def _members(here, name, members):
    with zipfile.ZipFile(here / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return name


def test_refusals(page, api, repo_id):
    """What a bundle may not be, and what it cannot be exported without."""
    here, spec = page.folder, bundles.spec_text(LSTM)
    refused = [
        ("A script to run", _spec(here, "setup:v1", setup_script="setup.py")),
        ("Code beside the weights", bundles.folder(here / "code:v1", policy_dot_py=b"").name),
        ("An absolute path", _spec(here, "absolute:v1", data_path="/etc/passwd")),
        ("A path out of the folder", _spec(here, "out:v1", data_path="../weights.pt")),
        ("No weights", _spec(here, "none:v1", data_path=None)),
        ("Weights that are not there", _spec(here, "gone:v1", data_path="policy.pt")),
        ("No class", _spec(here, "classless:v1", class_path=None)),
        ("Arguments that are none", _spec(here, "list:v1", init_kwargs=[1])),
        ("No object", bundles.folder(here / "array:v1", policy_spec_dot_json=b"[1]").name),
        ("No JSON", bundles.folder(here / "broken:v1", policy_spec_dot_json=b"{").name),
        ("A key twice", bundles.folder(here / "twice:v1", policy_spec_dot_json=b'{"a": 1, "a": 2}').name),
        ("Too large", bundles.folder(here / "large:v1", policy_spec_dot_json=b"[" + b" " * (2 << 20) + b"]").name),
        ("Weights of another kind", bundles.folder(here / "text:v1", weights_dot_pt=b"no weights").name),
        ("A link that leads out", _linked(here, "link:v1")),
        (
            "A member that would be unpacked elsewhere",
            _members(here, "up.zip", [("policy_spec.json", spec), ("../x", "")]),
        ),
        ("A link in a zip", _members(here, "link.zip", [("policy_spec.json", spec), (_link(), "/etc/passwd")])),
        ("A bomb", _members(here, "bomb.zip", [("policy_spec.json", spec), ("weights.pt", bytes(200 << 20))])),
        ("A spec that is a bomb", _members(here, "spec.zip", [("policy_spec.json", bytes(2 << 20))])),
        ("Cut short", _cut(here, "cut.zip")),
        ("One changed byte", _flipped(here, "flipped.zip")),
        ("Encrypted", _encrypted(here, "secret.zip")),
    ]
    for what, name in refused:
        page.run(what, "push", name, "org/nav")
    for path in bundles.mpt(here / "old.mpt", weights="policy.pt", content=_pickled(here)), _pickled_folder(here):
        page.run("Weights that would run something", "push", path.name, "org/nav")
        page.call("inspect", path.name)
    page.run("Nothing says which class runs the weights", "export", "run/model_000140.pt", "--bundle", "out")
    page.run("Nothing says of which run they are", "export", _bare(here), "--bundle", "out", "--class-path", "a.B")
    page.run("No .mpt is written", "export", "run/model_000140.pt", "--bundle", "out.mpt", code=2)
    page.run("Arguments that are not JSON", "export", _bare(here), "--bundle", "out", "--init-kwargs", "{x}", code=2)
    page.run("A missing file of arguments", "export", _bare(here), "--bundle", "out", "--init-kwargs", "x.json")
    page.run("No place for it", "export", _bare(here), "--class-path", "a.B", code=2)
    assert not api.repo_exists(repo_id)
    assert not (here / "out").exists()


def _linked(here, name):
    path = bundles.folder(here / name)
    (path / "weights.pt").unlink()
    (path / "weights.pt").symlink_to(PT)
    return name


def _link():
    info = zipfile.ZipInfo("extra")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _whole(here):
    return bundles.zipped(bundles.folder(here / "whole" / "x"), here / "whole" / "x.zip").read_bytes()


def _cut(here, name):
    (here / name).write_bytes(_whole(here)[:300_000])
    shutil.rmtree(here / "whole")
    # A zip without its end is nobody's bundle: it is named as what it still is.
    return name


def _flipped(here, name):
    content = bytearray(_whole(here))
    content[300_000] ^= 1
    (here / name).write_bytes(content)
    shutil.rmtree(here / "whole")
    return name


def _encrypted(here, name):
    content = bytearray(_whole(here))
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1
    (here / name).write_bytes(content)
    shutil.rmtree(here / "whole")
    return name


class Evil:
    def __reduce__(self):
        return (print, ("it ran",))


def _pickled(here):
    torch.save({"weight": Evil()}, here / "evil.bin")
    content = (here / "evil.bin").read_bytes()
    (here / "evil.bin").unlink()
    return content


def _pickled_folder(here):
    return bundles.folder(here / "evil:v1", weights_dot_pt=_pickled(here))


def _bare(here):
    shutil.copy(PT, here / "bare.pt")
    return "bare.pt"


def test_a_pickle_inside_is_only_looked_at(tmp_path, cli):
    for path in (
        _pickled_folder(tmp_path),
        bundles.mpt(tmp_path / "x.mpt", weights="policy.pt", content=_pickled(tmp_path)),
    ):
        with pytest.raises(NotPlainError):
            formats.read(path)
        told = json.loads(cli("inspect", path, "--json").stdout)
        assert told["pickle"]["plain"] is False
        assert "builtins.print" in told["pickle"]["globals"] or "__builtin__.print" in told["pickle"]["globals"]
