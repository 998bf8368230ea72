"""The rows of the table that need a Hub: an embedded one, in a process of its own, on loopback."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import Figure, times
from measure import Contestant, Run, Runs, race, run
from rows import BIN, Files, program


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """An embedded Hub, which the environment names meanwhile."""
    command = [str(BIN / "metta-hub"), "serve", "--root", str(folder / "hub"), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub:
        facts = json.loads(hub.stdout.readline() if hub.stdout else "")
        os.environ.update(
            HF_ENDPOINT=facts["endpoint"],
            HF_TOKEN=facts["token"],
            HF_HOME=str(folder / "home"),
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
        )
        try:
            yield
        finally:
            hub.terminate()
    shutil.rmtree(folder / "hub")


def rows_9_and_10(files: Files) -> Iterator[Figure]:
    """Push a checkpoint for the first time, and again."""
    with served(files.folder):
        yield from _first(files)
        yield from _again(files)


def _first(files: Files) -> Iterator[Figure]:
    large = _named(files, files.sizes.pushed)
    ready = files.folder / "ready"
    run(_pushes(large, lambda _: "org/ready"))
    run(Contestant(lambda _: [str(BIN / "hf"), "download", "org/ready", "--local-dir", str(ready), "--quiet"]))
    shutil.rmtree(ready / ".cache")  # what hf notes beside a download
    contestants = {
        "ours": _pushes(large, lambda number: f"org/ours-{number}"),
        "theirs": Contestant(
            lambda number: program("theirs_push", ready, f"org/theirs-{number}"), env={"HF_HUB_DISABLE_XET": "1"}
        ),
    }
    runs = race(contestants, min(5, files.sizes.rounds), seed=9)
    work = f"push {large.stat().st_size >> 20} MiB, first time"
    yield times(9, work, "create_commit of ready files", runs["ours"], runs["theirs"], 1.15)
    less = _few_runs(files, _pushes(_named(files, files.sizes.small), lambda number: f"org/less-{number}"))
    sent = _slope(runs["ours"], less, "read_sending", over="sent")
    yield Figure(9, work, "reads of each sent byte while sending", sent, sent, 1.0)


def _again(files: Files) -> Iterator[Figure]:
    large, small = _named(files, files.sizes.pushed), _named(files, files.sizes.small)
    for path, repo in ((large, "org/large"), (small, "org/small")):
        run(_pushes(path, lambda _, repo=repo: repo))
    again = _few_runs(files, _pushes(large, lambda _: "org/large"))
    less = _few_runs(files, _pushes(small, lambda _: "org/small"))
    work = "push again, nothing changed"
    size = large.stat().st_size - small.stat().st_size
    reads = (again.least(_fact("read")) - less.least(_fact("read"))) / size
    yield Figure(10, work, "reads of each byte", reads, reads, 1.0)
    for fact, unit in (("sent", "bytes sent"), ("changed", "commits")):
        value = max(map(_fact(fact), again))
        yield Figure(10, work, unit, value, value, 0, digits=0)


def _named(files: Files, size: int) -> Path:
    """A checkpoint whose name can stand in a repo."""
    path = files.folder / f"model_{size >> 20}.pt"
    if not path.exists():
        os.link(files.pt(files.sizes.few, size), path)
    return path


def _pushes(path: Path, repo: Callable[[int], str]) -> Contestant:
    return Contestant(lambda number: program("ours_push", path, repo(number)))


def _few_runs(files: Files, contestant: Contestant) -> Runs:
    return race({"it": contestant}, min(3, files.sizes.rounds), seed=10)["it"]


def _fact(name: str) -> Callable[[Run], float]:
    return lambda run: float(run.facts[name])


def _slope(large: Runs, small: Runs, name: str, *, over: str) -> float:
    """How a figure grows with the bytes: what every process reads whatever it pushes, its modules, drops out."""
    bytes_ = large.least(_fact(over)) - small.least(_fact(over))
    return (large.least(_fact(name)) - small.least(_fact(name))) / bytes_
