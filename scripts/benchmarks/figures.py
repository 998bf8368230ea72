"""What a row of the table says: figures, each with the goal that it is held against."""

from collections.abc import Callable
from dataclasses import dataclass

from measure import Run, Runs

MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        row: the number of the row in the design.
        work: what was done.
        unit: what the figure counts, as a person says it.
        value: the figure: the least of the rounds, or a ratio of least ones.
        median: the same from the medians.
        goal: what it must reach; None when it is only shown.
        most: whether the goal is an upper bound; else a lower one.
        digits: decimals that are shown and compared.
    """

    row: int
    work: str
    unit: str
    value: float
    median: float
    goal: float | None
    most: bool = True
    digits: int = 2

    @property
    def met(self) -> bool | None:
        """Whether the figure, as it is shown, reaches the goal; None without one."""
        if self.goal is None:
            return None
        shown = round(self.value, self.digits)
        return shown <= self.goal if self.most else shown >= self.goal


def wall(run: Run) -> float:
    """Seconds on the clock."""
    return run.wall


def peak(run: Run) -> float:
    """Most memory of the whole process, MiB."""
    return run.peak / MIB


def times(
    row: int, work: str, unit: str, ours: Runs, theirs: Runs, most: float | None, value: Callable[[Run], float] = wall
) -> Figure:
    """Ours as a multiple of theirs, which must stay at or under `most` (None: as it comes)."""
    medians = ours.median(value) / theirs.median(value)
    return Figure(row, work, f"× {unit}", ours.least(value) / theirs.least(value), medians, most)


def faster(row: int, work: str, unit: str, ours: Runs, theirs: Runs, least: float) -> Figure:
    """How many times as fast ours is as theirs: `least` or more."""
    medians = theirs.median(wall) / ours.median(wall)
    value = theirs.least(wall) / ours.least(wall)
    return Figure(row, work, f"× faster than {unit}", value, medians, least, most=False)


def more(row: int, work: str, unit: str, ours: Runs, other: Runs, most: float) -> Figure:
    """MiB of memory that ours takes beyond another process."""
    medians = ours.median(peak) - other.median(peak)
    return Figure(row, work, f"MiB over {unit}", ours.least(peak) - other.least(peak), medians, most, digits=1)
