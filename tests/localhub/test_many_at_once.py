"""Many processes and one repo; servers that are killed. Long versions are marked `slow`; seeds are printed."""

import contextlib
import http.client
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from localhub.committer import FILES, content
from localhub.helpers import HEADER, Serve, file_line, fsck, left_unfinished, ndjson, unfinished
from metta_hub.localhub import LocalHub, Server
from metta_hub.localhub.discussions import Discussions
from metta_hub.localhub.lfs import Pointer
from metta_hub.localhub.limits import Limits
from metta_hub.localhub.trees import walk


@contextmanager
def serving(root: Path, environment: dict[str, str]) -> Iterator[Serve]:
    serve = Serve(root, environment)
    serve.start()
    try:
        yield serve
    finally:
        serve.kill()


@contextmanager
def processes_of(
    program: str, words: list[list[str]], environment: dict[str, str]
) -> Iterator[list[subprocess.Popen[str]]]:
    """A program of this folder, run many times at once; what still runs in the end is stopped."""
    command = [sys.executable, str(Path(__file__).with_name(program))]
    workers = [
        subprocess.Popen([*command, *each], env=environment, stderr=subprocess.PIPE, text=True) for each in words
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def committers(serve: Serve, logs: Path, processes: int, count: int) -> list[list[str]]:
    """What to tell each committer.py."""
    logs.mkdir()
    return [
        [serve.endpoint, serve.token, "org/nav", f"w{n}", str(count), str(logs / f"w{n}")] for n in range(processes)
    ]


def outcomes(logs: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(logs.iterdir()) for line in path.read_text().splitlines()]


def git(folder: Path, *words: str) -> list[str]:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()


def check_history(folder: Path) -> dict[str, str]:
    """Every commit on `main` is whole and has one parent; their ids by message."""
    found: dict[str, str] = {}
    for line in git(folder, "log", "--format=%H|%P|%s", "main"):
        sha, parents, message = line.split("|")
        if message == "initial commit":
            assert not parents
            continue
        assert message not in found
        found[message] = sha
        assert len(parents) == 40
        changed = git(folder, "diff-tree", "-r", "--no-commit-id", "--name-status", sha)
        assert changed == [f"A\t{message}/{file}" for file in sorted(FILES)]
    assert found
    return found


def check_contents(root: Path, landed: dict[str, str]) -> None:
    with Server(root) as server:
        api = HfApi(endpoint=server.endpoint, token=server.token)
        info = {item.path: item for item in api.list_repo_tree("org/nav", recursive=True)}
        hub_repo = server.hub.repo("org", "nav")
        with hub_repo.git() as opened:
            head = opened.resolve("main")
            for name in landed:
                assert opened.read_file(head, f"{name}/a.txt") == content(name, "a.txt")
                lfs = info[f"{name}/m.bin"].lfs
                assert hub_repo.lfs.path(lfs.sha256).read_bytes() == content(name, "m.bin")


def test_eight_processes_commit_twenty_times_each_and_each_commit_lands_whole_or_is_412(tmp_path: Path, environment):
    processes, count = 8, 20
    root, logs = tmp_path / "hub", tmp_path / "logs"
    with serving(root, environment) as serve:
        HfApi(endpoint=serve.endpoint, token=serve.token).create_repo("org/nav")
        started = time.monotonic()
        with processes_of("committer.py", committers(serve, logs, processes, count), environment) as workers:
            said = [worker.communicate(timeout=300)[1] for worker in workers]
            assert [worker.returncode for worker in workers] == [0] * processes, said
        seconds = time.monotonic() - started
        assert serve.stop() == "Stopped; the repos are kept.\n"
    done = outcomes(logs)
    tally = Counter(item["outcome"] for item in done)
    print(f"\n{processes} processes, {count} commits each: {dict(tally)} in {seconds:.1f} s")
    assert len(done) == processes * count
    assert tally["unanswered"] == 0
    folder = root / "repos/org/nav/git"
    landed = check_history(folder)
    assert landed == {item["name"]: item["oid"] for item in done if item["outcome"] == "landed"}
    for item in done:
        if item["outcome"] == "landed" and item["parent"]:
            assert git(folder, "rev-parse", f"{item['oid']}^") == [item["parent"]]
        assert item["parent"] or item["outcome"] == "landed"  # without a parent nothing is refused
    # What was refused left nothing: no object that nothing needs, no reference, no temporary file.
    assert fsck(folder) == []
    assert git(folder, "for-each-ref", "--format=%(refname)") == ["refs/heads/main"]
    assert unfinished(root) == []
    assert list((root / "tmp").iterdir()) == []
    check_contents(root, landed)
    # Large files come before their commit. Those of refused ones wait for another try, as long as links are good.
    assert large_files(root) == len(done)
    LocalHub(root, limits=Limits(link_seconds=-1))
    assert large_files(root) == len(landed)
    check_contents(root, landed)


def large_files(root: Path) -> int:
    return sum(path.is_file() for path in (root / "repos/org/nav/lfs").glob("**/*"))


def killed_at_random(tmp_path: Path, environment: dict[str, str], kills: int, seed: int) -> None:
    root, logs = tmp_path / "hub", tmp_path / "logs"
    folder = root / "repos/org/nav/git"
    dice = random.Random(seed)
    begun = 0
    with serving(root, environment) as serve:
        HfApi(endpoint=serve.endpoint, token=serve.token).create_repo("org/nav")
        with processes_of("committer.py", committers(serve, logs, 4, 1_000_000), environment) as workers:
            while len(list(logs.iterdir())) < 4:  # the clients take longest to start
                time.sleep(0.05)
            for _ in range(kills):
                time.sleep(dice.uniform(0.02, 0.6))
                serve.kill()
                begun += len(unfinished(root))
                answered = {item["oid"] for item in outcomes(logs) if item["outcome"] == "landed"}
                serve.start()
                # Everything that was answered before the server died is there.
                history = set(git(folder, "rev-list", "main"))
                assert answered <= history
            time.sleep(0.3)
            assert [worker.poll() for worker in workers] == [None] * 4
        serve.stop()
    done = outcomes(logs)
    tally = Counter(item["outcome"] for item in done)
    landed = check_history(folder)
    lost = {item["name"] for item in done if item["outcome"] == "unanswered"} & landed.keys()
    unneeded = fsck(folder)
    print(
        f"\nseed {seed}: {kills} kills, {dict(tally)}, {len(landed)} commits in the history, {len(lost)} of them "
        f"unanswered; {begun} unfinished files at the kills, {len(unneeded)} unneeded objects left"
    )
    assert {item["name"]: item["oid"] for item in done if item["outcome"] == "landed"}.items() <= landed.items()
    assert not {item["name"] for item in done if item["outcome"] == "refused"} & landed.keys()
    # Objects that were in place before their reference moved may be left; nothing shows them, nothing is missing.
    assert all(line.startswith("unreachable ") for line in unneeded)
    assert git(folder, "for-each-ref", "--format=%(refname)") == ["refs/heads/main"]
    LocalHub(root)
    assert unfinished(root) == []
    check_contents(root, landed)


def test_a_server_killed_at_random_moments_keeps_every_answered_commit(tmp_path: Path, environment):
    killed_at_random(tmp_path, environment, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_server_killed_at_twenty_random_moments_keeps_every_answered_commit(tmp_path: Path, environment, seed: int):
    killed_at_random(tmp_path, environment, kills=20, seed=seed)


def killed_amid_everything(tmp_path: Path, environment: dict[str, str], kills: int, seed: int) -> None:
    root, logs = tmp_path / "hub", tmp_path / "logs"
    dice = random.Random(seed)
    logs.mkdir()
    with serving(root, environment) as serve:
        words = [[serve.endpoint, serve.token, f"{seed}-{n}", str(logs / str(n))] for n in range(4)]
        with processes_of("anything.py", words, environment) as workers:
            while len(list(logs.iterdir())) < 4:
                time.sleep(0.05)
            for _ in range(kills):
                time.sleep(dice.uniform(0.05, 0.6))
                serve.kill()
                serve.start()
            assert [worker.poll() for worker in workers] == [None] * 4
        serve.kill()
    statuses = Counter(int(line) for path in logs.iterdir() for line in path.read_text().splitlines())
    print(f"\nseed {seed}: {kills} kills amid everything, {dict(sorted(statuses.items()))}")
    assert statuses[200]
    assert statuses[500] == 0
    hub = LocalHub(root)
    assert unfinished(root) == []
    assert list((root / "tmp").iterdir()) == [hub.scratch.folder]
    repos = list(hub.repos())
    assert {repo.folder for repo in repos} == {path for path in (root / "repos").glob("*/*") if path.is_dir()}
    for repo in repos:
        assert all(line.startswith("unreachable ") for line in fsck(repo.folder / "git"))
        proposals = {str(item["num"]): item for item in Discussions(repo).all()}
        with repo.git() as opened:
            assert opened.references("refs/pr/").keys() == proposals.keys()
            for entry in walk(opened.objects, opened.tree(opened.resolve("main")), recursive=True):
                pointer = None if entry.is_folder else Pointer.parse(opened.blob(entry.sha))
                assert pointer is None or repo.lfs.holds(pointer)


def test_a_server_killed_amid_everything_keeps_every_repo_sound(tmp_path: Path, environment):
    killed_amid_everything(tmp_path, environment, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_server_killed_twenty_times_amid_everything_keeps_every_repo_sound(tmp_path: Path, environment, seed: int):
    killed_amid_everything(tmp_path, environment, kills=20, seed=seed)


def test_pushes_and_commits_to_one_branch_at_once(tmp_path: Path, environment, server: Server, api: HfApi, repo, run):
    """git pulls and pushes again when HTTP was faster; the history is one line of whole commits."""
    run("git", "clone", "-q", f"{server.endpoint.replace('://', f'://me:{server.token}@')}/{repo}", "work")
    work = tmp_path / "work"

    def push(number: int) -> int:
        (work / f"pushed-{number}").write_text(str(number))
        run("git", "add", ".", cwd=work)
        run("git", "commit", "-q", "-m", f"pushed-{number}", cwd=work)
        for tries in range(50):
            done = subprocess.run(
                ["git", "push", "-q", "origin", "HEAD:main"],
                cwd=work,
                env=environment,
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return tries
            run("git", "pull", "-q", "--rebase", "origin", "main", cwd=work)
        raise AssertionError("never pushed")

    def commit(number: int) -> None:
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"sent-{number}", repo_id=repo)

    with ThreadPoolExecutor(3) as pool:
        pushes = pool.submit(lambda: [push(number) for number in range(6)])
        list(pool.map(commit, range(20)))
        pushes.result()
    folder = server.root / "repos" / repo / "git"
    assert len(git(folder, "rev-list", "main")) == 1 + 6 + 20
    assert not git(folder, "rev-list", "--merges", "main")
    files = set(api.list_repo_files(repo))
    assert files == {".gitattributes", *(f"pushed-{n}" for n in range(6)), *(f"sent-{n}" for n in range(20))}
    assert fsck(folder) == []


def test_a_repo_deleted_and_made_again_during_commits_is_whole_or_not_there(ask, api: HfApi, server: Server, repo: str):
    folder = server.root / "repos" / repo
    statuses = Counter()

    def commit(number: int) -> None:
        body = ndjson(HEADER, *(file_line(f"{number}/{k}", b"%d %d" % (number, k)) for k in range(5)))
        statuses[ask("POST", f"/api/models/{repo}/commit/main", body).status] += 1

    def remake(_number: int) -> None:
        time.sleep(0.02)
        api.delete_repo(repo)
        time.sleep(0.01)
        api.create_repo(repo)

    with ThreadPoolExecutor(7) as pool:
        work = [pool.submit(remake, 0)] + [pool.submit(commit, n) for n in range(40)]
        for _ in range(5):
            work[0].result()
            work[0] = pool.submit(remake, 0)
            work += [pool.submit(commit, 1000 + len(work) + n) for n in range(40)]
        for item in work:
            item.result()
    assert set(statuses) <= {200, 404}, statuses
    assert fsck(folder / "git") == []
    assert left_unfinished(server.root) == []
    numbers = Counter(path.split("/")[0] for path in api.list_repo_files(repo) if "/" in path)
    assert set(numbers.values()) <= {5}
    api.delete_repo(repo)
    assert not folder.exists()


def test_a_repo_made_anew_is_not_the_one_that_was_meant(tmp_path: Path):
    """A writer that waited for the lock of a repo finds another of its name: its commit is not for that one."""
    hub = LocalHub(tmp_path)
    caller = hub.authenticate(hub.token)
    repo = hub.create_repo(caller, "org", "nav", private=False)
    hub.delete_repo(repo)
    hub.create_repo(caller, "org", "nav", private=False)
    with pytest.raises(Exception, match="Repository not found"), repo.lock():
        pass


def test_unfinished_uploads_block_nobody(server: Server, api: HfApi, repo: str):
    """Sixty clients that send half of a commit and then nothing: everybody else goes on."""
    half = []
    try:
        for _ in range(60):
            connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
            connection.putrequest("POST", f"/api/models/{repo}/commit/main")
            connection.putheader("Authorization", f"Bearer {server.token}")
            connection.putheader("Content-Length", "1000000")
            connection.endheaders(ndjson(HEADER))
            half.append(connection)
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id=repo)
        api.create_branch(repo, branch="b")
        api.delete_repo(repo)
    finally:
        for connection in half:
            connection.close()
    with contextlib.suppress(AssertionError):
        assert not api.repo_exists(repo)
