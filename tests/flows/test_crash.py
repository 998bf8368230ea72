"""SIGKILL at any moment of push and pull, and of the Hub: what is there is whole, and the next run completes it.

Moments are chosen by progress, at exact requests, and at random; a failure shows the seed (METTA_HUB_SEED repeats it).
"""

import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from threading import Timer

import pytest

import metta_hub
from metta_hub import errors
from metta_hub.containers import safetensors, torch_zip
from relay import ANSWERED, ASKED, TOLD, relay
from support import DATA, endpoint_at, finish, killed_at_change, start

OLD = DATA / "run" / "model_000020.pt"
PT = DATA / "run" / "model_000140.pt"
OTHER = DATA / "run" / "model_000202.pt"
COMMIT = r"POST /api/models/[^/]+/[^/]+/commit/"
FEW, MANY = 4, 50
#: Python itself tries with such a file whether the folder for temporary files can be written to.
PYTHONS_OWN = re.compile(r"[a-z0-9_]{8}")


@pytest.fixture
def large(tmp_path):
    """A pair of 8 MB, so that there are moments in the middle of reading and sending."""
    size = 1 << 23
    head = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    source, folder = tmp_path / "source.safetensors", tmp_path / "large"
    source.write_bytes(struct.pack("<Q", len(head)) + head + random.Random(8).randbytes(size))
    folder.mkdir()
    torch_zip.write(safetensors.read(source), folder / "model_000300.pt", archive_name="model_000300")
    (folder / "model_000300.json").write_text('{"epoch": 300, "agent_step": 3, "run_name": "large"}')
    return folder / "model_000300.pt"


@pytest.fixture
def in_parts(hub, monkeypatch):
    """A Hub that takes the large pair's files in eight parts or nine, as it takes any over 64 MiB."""
    monkeypatch.setattr(hub.hub.limits, "multipart_threshold", 1 << 20)
    monkeypatch.setattr(hub.hub.limits, "part_size", 1 << 20)


class CutError(Exception):
    """Cuts the wire between a client and the Hub: what was asked does not arrive, or what was answered."""


class Moments:
    """Random moments of a process that takes `seconds`, as it was measured; prints what is needed to repeat them."""

    def __init__(self, seconds: float) -> None:
        self.seed = int(os.environ.get("METTA_HUB_SEED") or random.SystemRandom().randrange(1 << 32))
        self._random, self._seconds = random.Random(self.seed), seconds
        print(f"METTA_HUB_SEED={self.seed}, unkilled {seconds:.3f} s")

    def next(self) -> float:
        """Seconds from the start to the next one; later ones are likelier, as a process begins with imports."""
        return self._random.triangular(0, self._seconds * 1.05, self._seconds)

    def kill(self, process) -> bool:
        """Kill a process that was just started at a random moment of its life; whether it still lived."""
        begun, delay = time.monotonic(), self.next()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
        else:  # what was measured was too long: the machine was busier then
            self._seconds = min(self._seconds, time.monotonic() - begun)
        _, err = process.communicate()
        print(f"moment {delay:.4f} s: exit {process.returncode}")
        assert process.returncode in {0, -9}, err
        return process.returncode != 0


def seconds_of(process) -> float:
    begun = time.monotonic()
    code, _, err = finish(process)
    assert code == 0, err
    return time.monotonic() - begun


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def state_of(api, repo_id) -> set[str] | None:
    """The checkpoints that a repo holds, whole: everything verified, nothing else there. None when there is none."""
    if not api.repo_exists(repo_id) or api.list_repo_files(repo_id) == [".gitattributes"]:
        return None
    verified = metta_hub.verify(repo_id)
    assert verified.ok, verified
    assert all(check.name != "other files" for check in verified.checks)
    return {item.checkpoint for item in metta_hub.list_checkpoints(repo_id)}


def assert_nothing_left(source: Path, before: list[str], temporary: Path, hub) -> None:
    """After the next run: no temporary file in the source's folder, the system's, or the Hub's."""
    assert files_in(source.parent) == before
    assert [path.name for path in temporary.iterdir() if not PYTHONS_OWN.fullmatch(path.name)] == []
    for _ in range(200):  # the Hub notices after a while that a client has gone
        # The folders in `tmp` are those of living servers.
        unfinished = [*(hub.root / "tmp").glob("*/*"), *hub.root.glob("repos/**/lfs/upload-*")]
        if not unfinished:
            return
        time.sleep(0.05)
    pytest.fail(f"left in the Hub: {unfinished}")


# --- push -------------------------------------------------------------------------------------------------------------


def killed_when(hub, is_moment, source: Path, repo_id: str) -> bool:
    """Push in a process that is killed at a moment of one of its requests; whether it came to that."""
    killed = []

    def act(request, now):
        if is_moment(request, now):
            process.kill()
            killed.append(process.wait())
            raise CutError

    with relay(hub.endpoint, act) as endpoint:
        process = start("push", source, repo_id, "--tag", "v1", env={"HF_ENDPOINT": endpoint})
        process.communicate()
    assert process.returncode == (-9 if killed else 0)
    return bool(killed)


@pytest.mark.parametrize(
    ("pattern", "moment", "published"),
    [
        ("POST /api/repos/create", ANSWERED, False),
        ("PUT /api/lfs/", ASKED, False),
        ("POST /api/lfs/.*/verify", ANSWERED, False),
        (COMMIT, ASKED, False),
        (COMMIT, ANSWERED, True),
        (COMMIT, TOLD, True),
        ("POST /api/models/.*/tag/", ASKED, True),
        ("POST /api/models/.*/tag/", ANSWERED, True),
    ],
    ids=[
        "the repo was made",
        "a large file is being sent",
        "large files were sent",
        "the commit was sent and did not arrive",
        "the commit was answered and nobody was told",
        "the commit was answered",
        "the tag was sent and did not arrive",
        "the tag was answered and nobody was told",
    ],
)
def test_push_killed_when(repo_id, hub, api, run, temporary, pattern, moment, published):
    source, before = run / PT.name, files_in(run)
    assert killed_when(hub, lambda request, now: now == moment and request.is_(pattern), source, repo_id)
    assert state_of(api, repo_id) == ({"model_000140"} if published else None)
    again = metta_hub.push(source, repo_id, tag="v1")
    assert again.changed is not published
    assert state_of(api, repo_id) == {"model_000140"}
    assert metta_hub.verify(f"{repo_id}@v1").ok
    assert [one.title for one in api.list_repo_commits(repo_id)] == ["Publish model_000140", "initial commit"]
    assert_nothing_left(source, before, temporary, hub)


@pytest.mark.parametrize("times", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_push_killed_at_random(repo_id, hub, api, large, in_parts, temporary, times):
    """In turn to a new repo and to one that holds another checkpoint."""
    before, states = files_in(large.parent), []
    moments = Moments(seconds_of(start("push", large, f"{repo_id}-unkilled")))
    for number in count():
        repo = f"{repo_id}-{number}"
        old, new = (None, {"model_000300"}) if number % 2 else ({"model_000020"}, {"model_000020", "model_000300"})
        if old:
            metta_hub.push(OLD, repo)
        commits = len(api.list_repo_commits(repo)) if old else 1
        killed = moments.kill(start("push", large, repo))
        state = state_of(api, repo)
        assert state == new or (killed and state == old)
        states += [state == new] * killed
        metta_hub.push(large, repo)
        assert state_of(api, repo) == new
        assert len(api.list_repo_commits(repo)) == commits + 1
        assert_nothing_left(large, before, temporary, hub)
        if len(states) == times:
            break
    print(f"{times} pushes killed, {states.count(True)} of them when all was published; all completed by the next")


@pytest.mark.slow
@pytest.mark.parametrize("moment", [ASKED, ANSWERED])
def test_push_killed_at_each_of_its_requests(repo_id, hub, api, large, in_parts, temporary, moment):
    before, states = files_in(large.parent), []
    for number in range(1, 200):
        repo, at = f"{repo_id}-{number}", (number, moment)
        metta_hub.push(OLD, repo)
        killed = killed_when(hub, lambda request, now, at=at: (request.number, now) == at, large, repo)
        states.append(state_of(api, repo))
        assert states[-1] in [{"model_000020"}, {"model_000020", "model_000300"}], f"killed at request {number}"
        metta_hub.push(large, repo, tag="v1")
        assert state_of(api, repo) == {"model_000020", "model_000300"}, f"killed at request {number}"
        assert api.model_info(repo, revision="v1").sha == api.model_info(repo).sha
        assert len(api.list_repo_commits(repo)) == 3
        assert_nothing_left(large, before, temporary, hub)
        if not killed:
            break
    print(f"killed when each of {number - 1} requests was {moment}: {states.count(states[0])} times nothing published")
    assert number > 15


# --- pull -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def versions(repo_id, large):
    """Two commits of a repo with one checkpoint, replaced between them: reference, weights and epoch of each."""
    first = metta_hub.push(large, repo_id)
    other = large.read_bytes().replace(b"\xaa\xbb", b"\xbb\xaa")
    kept = large.read_bytes()
    source = large.with_name("other.safetensors")
    head = json.dumps({"w": {"dtype": "U8", "shape": [1 << 20], "data_offsets": [0, 1 << 20]}}).encode()
    source.write_bytes(struct.pack("<Q", len(head)) + head + other[: 1 << 20])
    torch_zip.write(safetensors.read(source), large, archive_name=large.stem)
    large.with_suffix(".json").write_text('{"epoch": 301, "agent_step": 4, "run_name": "large"}')
    second = metta_hub.push(large, repo_id)
    return {
        300: (f"{repo_id}@{first.commit}", kept),
        301: (f"{repo_id}@{second.commit}", large.read_bytes()),
    }


def epoch_of_whole_pair(folder: Path, versions) -> int | None:
    """The epoch of the pair in a folder, wholly of one version; None when there is none."""
    pt = folder / "model_000300.pt"
    if not pt.exists():
        return None
    verified = metta_hub.verify(pt)
    assert verified.ok, verified
    epoch = metta_hub.inspect(pt).metadata["epoch"]
    assert pt.read_bytes() == versions[epoch][1]
    return epoch


def assert_pulled(folder: Path, cache: Path, versions, epoch: int) -> None:
    """After the next run: the pair, and no temporary file beside it or in the cache."""
    assert epoch_of_whole_pair(folder, versions) == epoch
    assert files_in(folder) == ["model_000300.json", "model_000300.pt"]
    assert [path for path in cache.rglob("*") if path.suffix == ".incomplete" or path.name.startswith("tmp")] == []


@pytest.mark.parametrize("times", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_pull_killed_at_random(versions, tmp_path, temporary, times):
    """In turn into an empty folder and over an older pair."""
    (old, _), (new, _) = versions[300], versions[301]
    moments = Moments(seconds_of(start("pull", old, tmp_path / "unkilled", "--cache-dir", tmp_path / "unkilled-cache")))
    epochs = []
    for number in count():
        folder, cache = tmp_path / f"out{number}", tmp_path / f"cache{number}"
        if number % 2:
            metta_hub.pull(new, folder, cache_dir=cache)
        killed = moments.kill(start("pull", old, folder, "--force", "--cache-dir", cache))
        epoch = epoch_of_whole_pair(folder, versions)
        assert epoch == 300 or (killed and epoch == (301 if number % 2 else None))
        epochs += [epoch] * killed
        metta_hub.pull(old, folder, force=True, cache_dir=cache)
        assert_pulled(folder, cache, versions, 300)
        assert [path.name for path in temporary.iterdir() if not PYTHONS_OWN.fullmatch(path.name)] == []
        if len(epochs) == times:
            break
    print(f"{times} pulls killed, {epochs.count(300)} of them when all was written; all completed by the next")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "cache"])
def test_pull_killed_before_each_of_its_changes(versions, tmp_path, where):
    (old, _), (new, _) = versions[300], versions[301]
    for number in range(1, 200):
        folder, cache = tmp_path / f"{number}-folder", tmp_path / f"{number}-cache"
        metta_hub.pull(new, folder)
        arguments = ("-m", "metta_hub", "pull", old, folder, "--force", "--cache-dir", cache)
        killed = killed_at_change(tmp_path / f"{number}-{where}", number, *arguments)
        assert epoch_of_whole_pair(folder, versions) in {300, 301}, f"killed before change {number}"
        metta_hub.pull(old, folder, force=True, cache_dir=cache)
        assert_pulled(folder, cache, versions, 300)
        if not killed:
            break
    print(f"killed before each of {number - 1} changes in the {where}")
    assert number > 8


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which kills at system calls, is not installed")
@pytest.mark.parametrize("call", ["rename", "fsync", "unlink", "write"])
def test_pull_killed_at_each_of_its_system_calls(versions, tmp_path, call):
    """Also in the middle of writing a file."""
    (old, _), (new, _) = versions[300], versions[301]
    epochs = []
    for number in range(1, 61):
        folder, cache = tmp_path / f"{number}-folder", tmp_path / f"{number}-cache"
        metta_hub.pull(new, folder)
        inject = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={number}"]
        pull = [sys.executable, "-m", "metta_hub", "pull", old, folder, "--force", "--cache-dir", cache]
        done = subprocess.run([*inject, *pull], capture_output=True, text=True, check=False)
        epochs.append(epoch_of_whole_pair(folder, versions))
        assert epochs[-1] in {300, 301}, f"killed at {call} {number}"
        metta_hub.pull(old, folder, force=True, cache_dir=cache)
        assert_pulled(folder, cache, versions, 300)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    print(f"killed at {number} calls of {call}: {epochs.count(301)} times nothing was replaced")
    assert number > 4


def test_a_download_that_was_killed_is_not_kept_for_good(versions, hub, tmp_path):
    reference, _ = versions[300]
    cache = tmp_path / "cache"

    def act(request, now):
        if now == ASKED and request.is_("GET .*/model_000300.pt"):
            process.kill()
            process.wait()

    with relay(hub.endpoint, act) as endpoint:
        command = ("pull", reference, tmp_path / "out", "--cache-dir", cache)
        process = start(*command, env={"HF_ENDPOINT": endpoint})
        process.communicate()
    assert [path.suffix for path in cache.rglob("*.incomplete")] == [".incomplete"]
    assert not (tmp_path / "out").exists()
    metta_hub.pull(versions[301][0], tmp_path / "other", cache_dir=cache)
    assert_pulled(tmp_path / "other", cache, versions, 301)


def test_a_download_that_is_going_on_is_left_alone(versions, hub, tmp_path):
    cache, todo = tmp_path / "cache", [versions[301][0]]

    def act(request, now):
        if now == ASKED and request.is_("GET .*/model_000300.pt") and todo:
            metta_hub.pull(todo.pop(), tmp_path / "other", cache_dir=cache)
            assert len(list(cache.rglob("*.incomplete"))) == 1

    with relay(hub.endpoint, act) as endpoint:
        command = ("pull", versions[300][0], tmp_path / "out", "--cache-dir", cache)
        code, _, err = finish(start(*command, env={"HF_ENDPOINT": endpoint}))
    assert code == 0, err
    assert_pulled(tmp_path / "out", cache, versions, 300)
    assert_pulled(tmp_path / "other", cache, versions, 301)


def test_a_damaged_copy_in_the_cache_is_downloaded_again(versions, tmp_path):
    """As after a power failure: the client does not sync what it downloads."""
    reference, _ = versions[300]
    metta_hub.pull(reference, tmp_path / "one", cache_dir=tmp_path / "cache")
    for blob in (tmp_path / "cache").glob("models--*/blobs/*"):
        if blob.stat().st_size > 1 << 22:
            os.truncate(blob, 1000)
    metta_hub.pull(reference, tmp_path / "two", cache_dir=tmp_path / "cache")
    assert_pulled(tmp_path / "two", tmp_path / "cache", versions, 300)


# --- the Hub ----------------------------------------------------------------------------------------------------------


class Serving:
    """A Hub in a process of its own that can be killed, and started again at another port."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.begin()

    def begin(self) -> None:
        command = [
            sys.executable,
            "-m",
            "metta_hub",
            "serve",
            "--root",
            self._root,
            "--port",
            "0",
            "--json",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        facts = json.loads(self._process.stdout.readline())
        self.endpoint, self.token = facts["endpoint"], facts["token"]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def serving(tmp_path):
    hub = Serving(tmp_path / "hub")
    yield hub
    hub.kill()


def answer_of(process) -> tuple[int, dict]:
    code, out, err = finish(process)
    assert out, err
    return code, json.loads(out)


def test_the_hub_killed_around_a_commit(serving, tmp_path):
    moments = []

    def act(request, now):
        if moments and request.is_(moments[0][0]) and now == moments[0][1]:
            moments.pop(0)
            serving.kill()
            raise CutError

    def push(path):
        return metta_hub.push(path, "org/nav", token=serving.token, cache_dir=tmp_path / "cache")

    with relay(lambda: serving.endpoint, act) as endpoint, endpoint_at(endpoint):
        for path, pattern, moment, said, published in [
            (OLD, "POST /api/repos/create", ASKED, "nothing was published", False),
            (PT, COMMIT, ASKED, "whether it was published is not known", False),
            (OTHER, COMMIT, ANSWERED, "whether it was published is not known", True),
        ]:
            moments.append((pattern, moment))
            with pytest.raises(errors.HubUnreachableError) as caught:
                push(path)
            assert re.fullmatch(rf"No answer from the Hub at {endpoint}( \(.*\))?; {said}\.", str(caught.value))
            assert caught.value.hint == "run the same command again, nothing is sent twice"
            serving.begin()
            assert push(path).changed is not published
        there = {"token": serving.token, "cache_dir": tmp_path / "cache"}
        assert metta_hub.verify("org/nav", **there).ok
        names = {item.checkpoint for item in metta_hub.list_checkpoints("org/nav", **there)}
        assert names == {"model_000020", "model_000140", "model_000202"}


@pytest.mark.slow
def test_the_hub_killed_while_large_files_are_sent(serving, tmp_path, large):
    """The client tries again five times, in one thread for each file; the last word is that nobody answers."""
    env = {"HF_ENDPOINT": serving.endpoint, "HF_TOKEN": serving.token, "HF_HOME": str(tmp_path / "home")}
    killed = []

    def act(request, now):
        if now == ASKED and request.is_("PUT /api/lfs/") and not killed:
            killed.append(serving.kill())
            raise CutError

    with relay(lambda: serving.endpoint, act) as endpoint:
        code, answer = answer_of(start("push", large, "org/nav", "--json", env=env | {"HF_ENDPOINT": endpoint}))
    assert killed
    assert code == 1
    assert answer["error"]["type"] == "HubUnreachableError", answer
    assert answer["error"]["message"].endswith("; nothing was published.")
    serving.begin()
    code, answer = answer_of(start("push", large, "org/nav", "--json", env=env | {"HF_ENDPOINT": serving.endpoint}))
    assert (code, answer["changed"]) == (0, True)


@pytest.mark.slow
def test_the_hub_killed_at_random_while_a_push_commits(serving, tmp_path, large):
    moments, armed, killers, outcomes = Moments(0.2), [], [], []

    def act(request, now):
        if armed and now == ASKED and request.is_(COMMIT):
            armed.pop()
            killers.append(Timer(moments.next(), serving.kill))
            killers[-1].start()

    with relay(lambda: serving.endpoint, act) as endpoint:
        env = {"HF_ENDPOINT": endpoint, "HF_TOKEN": serving.token, "HF_HOME": str(tmp_path / "home")}
        for number in range(20):
            repo, path = f"org/nav{number}", (PT, large)[number % 2]
            armed.append(True)
            code, answer = answer_of(start("push", path, repo, "--json", env=env))
            if code:
                assert "whether it was published is not known" in answer["error"]["message"], answer
            killers[-1].join()
            serving.begin()
            again, later = answer_of(start("push", path, repo, "--json", env=env))
            assert again == 0
            assert code or not later["changed"]
            outcomes.append((code == 0, later["changed"]))
            verified, checks = answer_of(start("verify", repo, "--json", env=env))
            assert verified == 0, checks
    print(
        f"answered: {sum(answered for answered, _ in outcomes)}, lost: {sum(changed for _, changed in outcomes)} of 20"
    )


def test_a_connection_that_breaks_while_sending_is_made_again_and_no_signed_link_is_shown(repo_id, hub, caplog):
    cut = []

    def act(request, now):
        if now == ASKED and request.is_("PUT /api/lfs/") and not cut:
            cut.append(request.path)
            raise CutError

    with relay(hub.endpoint, act) as endpoint, endpoint_at(endpoint):
        assert metta_hub.push(PT, repo_id).changed
    assert "signature=" in cut[0]
    assert "thrown while requesting PUT" in caplog.text
    assert "signature=" not in caplog.text
    assert metta_hub.verify(repo_id).ok
