"""Whole processes, timed side by side.

The order of the contestants is shuffled in every round: in a fixed order the same job was seen to take 0.9 or 3.9
seconds, depending on its place. Files are in the page cache, nothing is synced, and what a run writes is removed
after it.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One finished process: seconds on the clock and on the processors, most memory in bytes, what it printed."""

    wall: float
    cpu: float
    peak: int
    printed: str

    @property
    def facts(self) -> dict[str, Any]:
        """What it printed, as JSON."""
        return dict(json.loads(self.printed))


@dataclass(frozen=True)
class Contestant:
    """A command to time.

    Attributes:
        command: from the number of the round, which is 0 for the warm-up.
        written: files and folders that it makes; they are removed after each run.
        env: variables besides those of this process.
    """

    command: Callable[[int], Sequence[str]]
    written: Sequence[Path] = ()
    env: Mapping[str, str] = field(default_factory=dict)


class Runs(tuple[Run, ...]):
    """All counted runs of one contestant."""

    __slots__ = ()

    def least(self, value: Callable[[Run], float]) -> float:
        """The smallest of a figure."""
        return min(map(value, self))

    def median(self, value: Callable[[Run], float]) -> float:
        """The middle one of a figure."""
        return statistics.median(map(value, self))


def race(contestants: Mapping[str, Contestant], rounds: int, seed: int) -> dict[str, Runs]:
    """Run every contestant once without counting, then once a round, in another order each time."""
    shuffled = random.Random(seed)
    names = list(contestants)
    found: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds + 1):
        shuffled.shuffle(names)
        for name in names:
            done = run(contestants[name], number)
            if number:
                found[name].append(done)
    return {name: Runs(runs) for name, runs in found.items()}


def run(contestant: Contestant, number: int = 0) -> Run:
    """Run a contestant once.

    Raises:
        RuntimeError: it failed.
    """
    command = contestant.command(number)
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | dict(contestant.env))
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    for path in contestant.written:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if process.returncode:
        raise RuntimeError(f"exit {process.returncode}: {' '.join(map(str, command))}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, printed)
