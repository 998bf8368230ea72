"""Several at once: everything that was answered for is there, whole, and nobody's files were mixed with another's."""

import json
import random
import re
import struct
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import metta_hub
from metta_hub import errors
from relay import ASKED, relay
from support import DATA, endpoint_at, finish, start

FIRST = DATA / "run" / "model_000020.pt"
PT = DATA / "run" / "model_000140.pt"
OTHER = DATA / "run" / "model_000202.pt"
COMMIT = r"POST /api/models/[^/]+/[^/]+/commit/"


def checkpoints_in(repo_id, revision=None):
    return {item.checkpoint for item in metta_hub.list_checkpoints(repo_id, revision=revision)}


def commits_in(api, repo_id):
    return [commit.title for commit in api.list_repo_commits(repo_id)]


def small(folder, number):
    """A checkpoint of its own: four numbers."""
    header = b'{"weight":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    path = folder / f"model_{number:04}.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<4f", *[number] * 4))
    return path


@pytest.fixture
def meanwhile(hub):
    """A Hub on which, just before the first request of a kind arrives, something else is done."""

    @contextmanager
    def before(pattern, work):
        todo = [work]

        def act(request, moment):
            if moment == ASKED and request.is_(pattern) and todo:
                todo.pop()()

        with relay(hub.endpoint, act) as endpoint, endpoint_at(endpoint):
            yield
        assert not todo

    return before


# --- the real thing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [6, pytest.param(12, marks=pytest.mark.slow)])
def test_pushes_to_a_new_repo_at_once_all_land(repo_id, api, tmp_path, number):
    paths = [small(tmp_path, one) for one in range(number)]
    done = [finish(process) for process in [start("push", path, repo_id, "--json") for path in paths]]
    assert [code for code, _, _ in done] == [0] * number, [err for _, _, err in done]
    pushed = [json.loads(out) for _, out, _ in done]
    assert checkpoints_in(repo_id) == {path.stem for path in paths}
    assert len({one["commit"] for one in pushed}) == number
    assert [one["created"] for one in pushed].count(True) == 1
    assert sorted(commits_in(api, repo_id)) == sorted(["initial commit", *(f"Publish {path.stem}" for path in paths)])
    assert metta_hub.verify(repo_id).ok


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(8))
def test_pushes_at_once_of_which_some_are_killed(repo_id, api, tmp_path, turn):
    paths, delays = [small(tmp_path, one) for one in range(6)], random.Random(turn)
    processes = [start("push", path, repo_id) for path in paths]
    for process in processes[::2]:
        time.sleep(delays.uniform(0, 0.8))
        process.kill()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes[1::2]] == [0] * 3
    assert checkpoints_in(repo_id) >= {path.stem for path in paths[1::2]}
    assert metta_hub.verify(repo_id).ok
    for path in paths:
        metta_hub.push(path, repo_id)
    assert checkpoints_in(repo_id) == {path.stem for path in paths}
    assert len(commits_in(api, repo_id)) >= 7
    assert metta_hub.verify(repo_id).ok


def test_two_pushes_of_the_same_checkpoint_at_once(repo_id, api):
    metta_hub.push(OTHER, repo_id)
    done = [finish(process) for process in [start("push", PT, repo_id, "--json") for _ in range(2)]]
    assert [code for code, _, _ in done] == [0, 0], [err for _, _, err in done]
    assert len({json.loads(out)["commit"] for _, out, _ in done}) == 1
    assert commits_in(api, repo_id).count("Publish model_000140") == 1
    assert metta_hub.verify(repo_id).ok


# --- one overtakes the other ----------------------------------------------------------------------------------------


def test_a_moved_parent_is_looked_at_again(repo_id, meanwhile, api):
    metta_hub.push(FIRST, repo_id)
    said = []
    with meanwhile(COMMIT, lambda: metta_hub.push(OTHER, repo_id)):
        pushed = metta_hub.push(PT, repo_id, report=lambda verb, text: said.append((verb, text)))
    assert pushed.root == "model_000140"
    assert said.count(("again", f"somebody else published to {repo_id} meanwhile")) == 1
    assert checkpoints_in(repo_id) == {"model_000020", "model_000140", "model_000202"}
    assert commits_in(api, repo_id)[:2] == ["Publish model_000140", "Publish model_000202"]
    assert metta_hub.verify(repo_id).ok


def test_the_same_published_by_somebody_else_meanwhile_is_unchanged(repo_id, meanwhile, api):
    metta_hub.push(OTHER, repo_id)
    with meanwhile(COMMIT, lambda: metta_hub.push(PT, repo_id)):
        metta_hub.push(PT, repo_id)
    assert commits_in(api, repo_id)[:2] == ["Publish model_000140", "Publish model_000202"]


def test_a_name_that_another_run_took_meanwhile_is_refused(repo_id, meanwhile, run):
    metta_hub.push(OTHER, repo_id)
    theirs = run / "model_000140.json"
    theirs.write_text(json.dumps(json.loads(theirs.read_text()) | {"run": "another", "run_name": "another"}))
    refused = pytest.raises(errors.ConflictError, match="of the run 'another'")
    with meanwhile(COMMIT, lambda: metta_hub.push(theirs, repo_id)), refused:
        metta_hub.push(PT, repo_id)
    assert metta_hub.verify(repo_id).ok


def test_when_others_are_always_faster_the_push_ends_and_says_so(repo_id, hub, tmp_path, monkeypatch):
    from metta_hub.api import push

    monkeypatch.setattr(push, "TRIES", 3)
    monkeypatch.setattr(push, "LONGEST_WAIT", 0.01)
    numbers = iter(range(100))
    busy = []

    def act(request, moment):
        if moment == ASKED and request.is_(COMMIT) and not busy:
            busy.append(True)
            metta_hub.push(small(tmp_path, next(numbers)), repo_id)
            busy.clear()

    refused = pytest.raises(errors.ParentMovedError)
    with relay(hub.endpoint, act) as endpoint, endpoint_at(endpoint), refused as caught:
        metta_hub.push(PT, repo_id)
    assert str(caught.value) == f"Others published to {repo_id} before each of 3 tries; nothing was published."
    assert "run the same command again" in caught.value.hint
    assert checkpoints_in(repo_id) == {"model_0000", "model_0001", "model_0002"}
    assert metta_hub.verify(repo_id).ok


def test_a_repo_that_somebody_makes_meanwhile_is_used(repo_id, meanwhile):
    with meanwhile("POST /api/repos/create", lambda: metta_hub.push(OTHER, repo_id)):
        assert not metta_hub.push(PT, repo_id).created
    assert checkpoints_in(repo_id) == {"model_000140", "model_000202"}
    assert metta_hub.verify(repo_id).ok


def test_a_repo_that_somebody_makes_public_meanwhile_gets_nothing_private(repo_id, meanwhile, api):
    refused = pytest.raises(errors.ConflictError, match="is public, and private was asked for")
    with meanwhile("POST /api/repos/create", lambda: api.create_repo(repo_id, private=False)), refused:
        metta_hub.push(PT, repo_id, private=True)
    assert api.list_repo_files(repo_id) == [".gitattributes"]


def test_a_branch_that_somebody_makes_meanwhile_is_used(repo_id, meanwhile):
    metta_hub.push(FIRST, repo_id)
    with meanwhile("POST /api/models/.*/branch/", lambda: metta_hub.push(OTHER, repo_id, revision="exp/a")):
        metta_hub.push(PT, repo_id, revision="exp/a")
    assert checkpoints_in(repo_id, "exp/a") == {"model_000020", "model_000140", "model_000202"}
    assert checkpoints_in(repo_id) == {"model_000020"}
    assert metta_hub.verify(f"{repo_id}@exp/a").ok


def test_a_tag_that_somebody_makes_meanwhile(repo_id, meanwhile, api):
    metta_hub.push(OTHER, repo_id)
    refused = pytest.raises(errors.HubError, match="the tag 'v1' was not made")
    with meanwhile(COMMIT, lambda: api.create_tag(repo_id, tag="v1")), refused as caught:
        metta_hub.push(PT, repo_id, tag="v1")
    commit = re.search(r"published in \S+ as ([0-9a-f]{40}),", str(caught.value)).group(1)
    assert caught.value.hint == f"choose another: hf repos tag create {repo_id} TAG --revision {commit}"
    assert api.list_repo_commits(repo_id)[0].commit_id == commit


def test_the_same_tag_on_the_same_commit_is_what_was_wanted(repo_id, meanwhile):
    metta_hub.push(PT, repo_id)
    with meanwhile("POST /api/models/.*/tag/", lambda: metta_hub.push(PT, repo_id, tag="v1")):
        assert not metta_hub.push(PT, repo_id, tag="v1").changed


# --- pulls ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_versions(repo_id, run):
    """A repo whose one checkpoint was replaced: what its two commits hold, by the epoch."""
    first = metta_hub.push(run / "model_000140.pt", repo_id)
    (run / "model_000140.pt").write_bytes(OTHER.read_bytes())
    (run / "model_000140.json").write_bytes(OTHER.with_suffix(".json").read_bytes())
    second = metta_hub.push(run / "model_000140.pt", repo_id)
    return {140: (f"{repo_id}@{first.commit}", PT), 202: (f"{repo_id}@{second.commit}", OTHER)}


def assert_whole(folder, versions):
    """The pair in a folder is one of the versions, to the last byte, and nothing else is there."""
    pt = folder / "model_000140.pt"
    epoch = json.loads(pt.with_suffix(".json").read_text())["epoch"]
    assert pt.read_bytes() == Path(versions[epoch][1]).read_bytes()
    verified = metta_hub.verify(pt)
    assert verified.ok, verified
    assert sorted(path.name for path in folder.iterdir()) == ["model_000140.json", "model_000140.pt"]


def test_pulls_into_the_same_folder_at_once(two_versions, tmp_path):
    folder = tmp_path / "out"
    references = [reference for reference, _ in two_versions.values()] * 2
    done = [finish(process) for process in [start("pull", one, folder, "--force") for one in references]]
    assert [code for code, _, _ in done] == [0] * 4, [err for _, _, err in done]
    assert_whole(folder, two_versions)


def test_the_same_pulled_into_an_empty_folder_by_several_at_once(two_versions, tmp_path):
    reference, _ = two_versions[202]
    done = [finish(process) for process in [start("pull", reference, tmp_path / "out") for _ in range(4)]]
    assert [code for code, _, _ in done] == [0] * 4, [err for _, _, err in done]
    assert_whole(tmp_path / "out", two_versions)


@pytest.mark.parametrize("turns", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_what_reads_a_pair_while_it_is_pulled_never_finds_it_mixed(two_versions, tmp_path, turns):
    folder = tmp_path / "out"
    pt = folder / "model_000140.pt"
    metta_hub.pull(two_versions[140][0], folder)
    found = []
    for turn in range(turns):
        puller = start("pull", two_versions[(202, 140)[turn % 2]][0], folder, "--force")
        while puller.poll() is None:
            verified = metta_hub.verify(pt)
            assert verified.ok or "changed while it was being verified" in str(verified), verified
            found.append(metta_hub.inspect(pt).metadata["epoch"])
        code, _, err = finish(puller)
        assert code == 0, err
        found.append(metta_hub.inspect(pt).metadata["epoch"])
    assert set(found) == {140, 202}
    assert_whole(folder, two_versions)
