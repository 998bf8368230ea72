"""diff: two checkpoints side by side, of whatever formats."""

import json
import math
import shutil

import pytest
import torch

import metta_hub
from support import DATA

RECORD = DATA / "records" / "model_0005.pt"
PAIR = DATA / "run" / "model_000140.pt"


def saved(path, **tensors):
    torch.save(tensors, path)
    return path


def test_a_record_and_the_pair_made_of_it_are_equal(tmp_path):
    shutil.copy(RECORD, tmp_path / "model_0005.pt")
    target = metta_hub.migrate_checkpoint(tmp_path / "model_0005.pt")
    found = metta_hub.diff(RECORD, target, weights=True)
    assert (dict(found.metadata), found.tensors.added, found.tensors.removed, found.tensors.changed) == ({}, (), (), ())


def test_two_checkpoints_of_a_run_here_and_on_the_hub(tmp_path, cli, repo_id):
    others = sorted((DATA / "run").glob("*.pt"))
    one, other = others[0], others[-1]
    assert one != other
    for path in (one, other):
        metta_hub.push(path, repo_id)
    published = [f"hf://{repo_id}:{path.stem}" for path in (one, other)]
    local, remote = (
        json.loads(cli("diff", *sides, "--weights", "--json").stdout) for sides in ((one, other), published)
    )
    # A mirror has its tensors in another order.
    by_name = [sorted(found["tensors"]["changed"], key=lambda item: item["name"]) for found in (local, remote)]
    assert by_name[0] == by_name[1]
    a, b = (torch.load(path, weights_only=True) for path in (one, other))
    for item in local["tensors"]["changed"]:
        mine, theirs = a[item["name"]].double(), b[item["name"]].double()
        assert item["moved"] == pytest.approx(((theirs - mine).norm() / mine.norm()).item(), rel=1e-9)
    assert {item["name"] for item in local["tensors"]["changed"]} == {n for n in a if not torch.equal(a[n], b[n])}
    assert local["metadata"]["/epoch"] == {"a": int(one.stem[-6:]), "b": int(other.stem[-6:])}
    assert "/uri" not in local["metadata"]


def test_without_weights_none_is_read_from_the_hub(tmp_path, repo_id, hub):
    for path in sorted((DATA / "run").glob("*.pt"))[:2]:
        metta_hub.push(path, repo_id)
    names = [path.stem for path in sorted((DATA / "run").glob("*.pt"))[:2]]
    hub.requests.clear()
    found = metta_hub.diff(f"{repo_id}:{names[0]}", f"{repo_id}:{names[1]}", cache_dir=tmp_path / "cache")
    assert found.tensors.changed == ()
    assert "/epoch" in found.metadata
    assert sum(entry.sent for entry in hub.requests) < PAIR.stat().st_size


def test_names_shapes_and_dtypes(tmp_path, cli):
    a = saved(tmp_path / "a.pt", same=torch.ones(2), gone=torch.ones(1), shape=torch.ones(2, 3), kind=torch.ones(4))
    b = saved(
        tmp_path / "b.pt", same=torch.ones(2), shape=torch.ones(3, 2), kind=torch.ones(4).half(), new=torch.ones(1)
    )
    found = json.loads(cli("diff", a, b, "--json").stdout)["tensors"]
    assert (found["added"], found["removed"]) == (["new"], ["gone"])
    assert found["changed"] == [
        {"name": "shape", "a": "F32 [2, 3]", "b": "F32 [3, 2]", "moved": None},
        {"name": "kind", "a": "F32 [4]", "b": "F16 [4]", "moved": None},
    ]
    shown = cli("diff", a, b).stdout
    assert "- gone\n+ new\n  shape: F32 [2, 3] → F32 [3, 2]" in shown
    assert cli("diff", a, a).stdout == "Equal, but for values: --weights reads them\n"
    assert cli("diff", a, a, "--weights").stdout == "Equal, every value\n"


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8]
)
def test_how_far_a_tensor_moved(tmp_path, dtype):
    a, b = torch.arange(1, 700_001).remainder(50).to(dtype), torch.arange(1, 700_001).remainder(49).to(dtype)
    found = metta_hub.diff(saved(tmp_path / "a.pt", w=a), saved(tmp_path / "b.pt", w=b), weights=True)
    (item,) = found.tensors.changed
    expected = ((b.double() - a.double()).norm() / a.double().norm()).item()
    assert item.moved == pytest.approx(expected, rel=1e-12)


def test_what_has_no_distance(tmp_path):
    a = saved(tmp_path / "a.pt", zero=torch.zeros(2), nan=torch.tensor([math.nan]), flag=torch.tensor([True]))
    b = saved(tmp_path / "b.pt", zero=torch.ones(2), nan=torch.ones(1), flag=torch.tensor([False]))
    changed = metta_hub.diff(a, b, weights=True).tensors.changed
    assert {item.name: item.moved for item in changed} == {"zero": None, "nan": None, "flag": None}
