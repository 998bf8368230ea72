"""A source that somebody writes to while it is being published: the push stops, says so, and nothing is committed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import metta_hub
import tampering
from metta_hub import errors
from relay import ANSWERED, ASKED, relay
from support import DATA, endpoint_at, finish, start

PT = DATA / "run" / "model_000140.pt"
OTHER = DATA / "run" / "model_000202.pt"


def test_written_to_at_any_time_of_being_opened(repo_id, api, tmp_path):
    """While it is looked at, judged, converted, hashed, compared and sent."""
    done = subprocess.run(
        [sys.executable, tampering.__file__, str(PT), str(OTHER), str(tmp_path), repo_id],
        env=os.environ | {"PYTHONPATH": str(Path(tampering.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    for one in found:
        repo = f"{repo_id}-{one['action']}{one['number']}"
        if one["error"]:
            assert one["error"] == "SourceChangedError", one
            assert "changed" in one["words"], one
            assert "run the same command again when nobody writes to it" in one["words"], one
            assert not api.repo_exists(repo) or api.list_repo_files(repo) == [".gitattributes"], one
        else:
            # It held another whole pair before it was read to the end: read again, that is what was meant.
            assert one["action"] in {"replace", "rewrite"}, one
            assert one["number"] <= 5, one  # so often it is opened to see of which format it is
            published = {file.path: file for file in api.list_repo_tree(repo)}[PT.name]
            assert published.lfs.sha256 == one["sha256"], one
    assert {one["action"] for one in found} == set(tampering.ACTIONS)
    assert max(one["number"] for one in found) >= 6


@pytest.mark.parametrize("action", tampering.ACTIONS)
@pytest.mark.parametrize(
    ("pattern", "moment"),
    [("POST .*/objects/batch", ANSWERED), ("PUT /api/lfs/", ASKED), ("POST /api/lfs/.*/verify", ANSWERED)],
    ids=["before it is sent", "while it is sent", "when it was sent"],
)
def test_written_to_around_the_upload(repo_id, hub, api, tmp_path, action, pattern, moment):
    source, todo = tampering.fresh(PT, tmp_path / "run"), [tampering.ACTIONS[action]]

    def act(request, now):
        if now == moment and request.is_(pattern) and todo:
            todo.pop()(source, OTHER)

    stopped = pytest.raises(errors.SourceChangedError, match="while it was being published; nothing was published")
    with relay(hub.endpoint, act) as endpoint, endpoint_at(endpoint), stopped:
        metta_hub.push(source, repo_id)
    assert not todo
    assert api.list_repo_files(repo_id) == [".gitattributes"]


def test_what_the_user_sees(repo_id, hub, api, tmp_path):
    source = tampering.fresh(PT, tmp_path / "run")
    metta_hub.push(OTHER, repo_id)
    before = api.list_repo_commits(repo_id)

    def act(request, moment):
        if moment == ASKED and request.is_("PUT /api/lfs/"):
            source.with_suffix(".json").write_text('{"epoch": 141}')

    with relay(hub.endpoint, act) as endpoint:
        code, out, err = finish(start("push", source, repo_id, env={"HF_ENDPOINT": endpoint}))
    assert code == 1
    assert out == ""
    assert err.splitlines()[-2:] == [
        f"Error: {source.with_suffix('.json')}: the file changed while it was being published; nothing was published.",
        "Hint: run the same command again when nobody writes to it",
    ]
    assert [one.commit_id for one in api.list_repo_commits(repo_id)] == [one.commit_id for one in before]


def test_a_policy_is_not_built_from_two_files(tmp_path, monkeypatch):
    from metta_hub import policies

    source = tampering.fresh(PT, tmp_path / "run")

    def build(checkpoint, **_):
        tampering.ACTIONS["replace"](source, OTHER)
        return checkpoint

    monkeypatch.setattr(policies, "build", build)
    with pytest.raises(errors.SourceChangedError, match="changed while it was being read"):
        metta_hub.from_pretrained(source)


def test_a_verdict_is_not_about_two_files(tmp_path, monkeypatch):
    from metta_hub.containers import torch_zip

    source = tampering.fresh(PT, tmp_path / "run")
    check = torch_zip.check_sums

    def replaced(path):
        check(path)
        tampering.ACTIONS["replace"](source, OTHER)

    monkeypatch.setattr(torch_zip, "check_sums", replaced)
    verified = metta_hub.verify(source)
    assert not verified.ok
    assert (
        verified.checks[-1].detail == f"{source.name} changed while it was being verified; run the same command again"
    )
