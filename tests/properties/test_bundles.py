"""Bundles: what is written is read again; damage gives what the library reads, or an error of ours."""

import json
import shutil
import string
import zipfile

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import bundles
from containers.builders import assert_same, by_safetensors
from metta_hub import formats, names
from metta_hub.api.export import export
from metta_hub.containers import copying
from metta_hub.errors import BadNameError, MettaHubError
from metta_hub.formats import bundle, bundle_spec
from properties.mutations import mutations
from properties.strategies import documents, often, state_dicts

_MODES = st.sampled_from(["folder", "stored", "deflated"])
#: Among them are those that a repo's NAME cannot have.
_RUNS = st.text(st.sampled_from(string.ascii_letters + string.digits + ".:_-+ ()é"), min_size=1, max_size=20)


def _fresh(folder):
    place = folder / "bundles"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


def _as(mode, source):
    if mode == "folder":
        return source
    method = zipfile.ZIP_STORED if mode == "stored" else zipfile.ZIP_DEFLATED
    return bundles.zipped(source, source.with_name(f"{source.name}.zip"), method=method)


@given(data=st.data())
@often(60)
def test_what_a_bundle_holds_is_read_written_and_read_again(folder, data):
    place, mode, suffix = _fresh(folder), data.draw(_MODES), data.draw(st.sampled_from(["pt", "safetensors"]))
    state = data.draw(state_dicts())
    assume(state)
    plain, spec = place / f"plain.{suffix}", {**bundles.LSTM, "data_path": f"weights.{suffix}"}
    if suffix == "pt":
        torch.save(state, plain)
    else:
        by_safetensors(state, plain)
    source = _as(mode, bundles.folder(place / "run.a:v7", spec, plain))
    first = formats.read(source)
    if suffix == "pt":
        assert_same(state, first.weights, copying.read_tensor)
    out = place / "out" / data.draw(st.sampled_from(["run.a:v7", "run.a:v7.zip"]))
    written = bundle.write(first, out, spec=first.metadata.values["metta_bundle"])
    again = formats.read(written.path)
    assert again.metadata.values == first.metadata.values
    assert again.name == first.name
    compared = copying.compare(first.weights, again.weights)
    assert all(result.equal for result in compared), compared
    before = {path: path.read_bytes() for path in [out, *out.rglob("*")] if path.is_file()}
    assert not bundle.write(again, out, spec=first.metadata.values["metta_bundle"]).replaced
    assert before == {path: path.read_bytes() for path in before}
    if suffix == "pt":
        name = f"weights.{suffix}"
        kept = zipfile.ZipFile(out).read(name) if out.is_file() else (out / name).read_bytes()
        assert kept == plain.read_bytes()


@given(documents)
@often(60)
def test_any_spec_is_kept_whole_or_refused(folder, document):
    place = _fresh(folder)
    spec = {**(document if isinstance(document, dict) else {"other": document}), **bundles.HEAD}
    source = bundles.head(place / "r:v1")
    (source / "policy_spec.json").write_text(json.dumps(spec))
    try:
        found = formats.read(source)
    except MettaHubError:
        return
    kept = found.metadata.values["metta_bundle"]
    exported = export(source, place / "out").path
    assert json.loads((exported / "policy_spec.json").read_text()) == kept
    if not found.metadata.repairs:
        assert kept == spec


@given(_RUNS, st.integers(0, 10**15 - 1))
@often(200)
def test_the_name_of_a_bundle_says_run_and_epoch(run, epoch):
    try:
        name = names.bundle_name(run, epoch)
    except BadNameError:
        assert run.startswith(".")
        return
    assert names.run_and_epoch(name) == (run, epoch)
    assert "/" not in name


@given(st.text(max_size=30))
@often(200)
def test_any_text_names_a_bundle_as_metta_reads_it_or_none(text):
    """mettagrid's rule, but that its digits may be anything that Python calls one: those of superscripts stop it."""
    expected = None
    if ":v" in text:
        run, suffix = text.rsplit(":v", 1)
        if run and suffix.isascii() and suffix.isdigit() and len(suffix) < 16:
            expected = (run, int(suffix))
    assert names.run_and_epoch(text) == expected


@given(data=st.data())
@often(150)
def test_a_damaged_bundle(folder, limited, data):
    """The weights are those of the undamaged one, or the process refuses it, quickly and in little memory."""
    place, mode = _fresh(folder), data.draw(st.sampled_from(["stored", "deflated", "mpt"]))
    if mode == "mpt":
        path = bundles.mpt(place / "r:v1.mpt")
    else:
        path = _as(mode, data.draw(st.sampled_from([_small_pt, _small_head]))(place / "r:v1"))
    undamaged = limited.ask("bundle", path)["tensors"]
    path.write_bytes(data.draw(mutations(path.read_bytes())))
    answer = limited.ask("bundle", path)
    assert "refused" in answer or answer["tensors"] == undamaged


def _small_pt(path):
    torch.save({"weight": torch.arange(12.0).reshape(3, 4).t(), "bias": torch.arange(3)}, path.with_name("small.pt"))
    return bundles.folder(path, weights=path.with_name("small.pt"))


def _small_head(path):
    return bundles.head(path)


@given(data=st.data())
@often(150)
def test_a_damaged_spec(folder, data):
    place = _fresh(folder)
    source = bundles.head(place / "r:v1")
    content = data.draw(mutations(bundles.spec_text({**bundles.HEAD, "more": [1, {"a": None}]}).encode()))
    (source / "policy_spec.json").write_bytes(content)
    try:
        found = formats.read(source)
    except MettaHubError:
        return
    bundle_spec.check(found.metadata.values["metta_bundle"], "the spec")
