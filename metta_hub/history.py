"""A repo's checkpoints, and choosing one of them.

The nouns and the file `checkpoints/index.json` are in `metta_hub.index`; their names are here too, so that
`history` is the one thing to import.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, isfinite

from metta_hub.errors import NotFoundError, UsageError
from metta_hub.index import Entry, FileRecord, Index, below, dumps, entry_of, parse, put
from metta_hub.metadata import JSON, number, numbers_in

__all__ = [
    "Choice",
    "Entry",
    "FileRecord",
    "Index",
    "below",
    "dumps",
    "entry_of",
    "find",
    "mean_of_evals",
    "metric",
    "parse",
    "put",
    "ranked",
    "select",
]

_MEASURABLE = (
    "score",
    "avg_reward",
    "reward_sem",
    "epoch",
    "agent_step",
    "parameters",
    "evals",
    "eval_scores",
)
# How many names an error lists, and among how many it looks for a similar one: comparing texts is slow.
_SHOWN = 8
_COMPARED = 1000
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen checkpoint, and a sentence on what decided."""

    entry: Entry
    why: str


@dataclass(frozen=True, slots=True)
class _Measure:
    name: str
    of: Callable[[Entry], float | None]


# --- measuring --------------------------------------------------------------------------------------------


def metric(entry: Entry, path: str) -> float | None:
    """A number of a checkpoint by name or dotted path, as `navigation` or `evals.category_scores.navigation`.

    Tried in turn: the entry itself, `evals`, `eval_scores`, and inside `evals` Metta's `category_scores` and
    `simulation_scores`. A key may hold dots itself. None when there is no number.
    """
    evals = entry.evals
    top: dict[str, JSON] = {key: getattr(entry, key) for key in _MEASURABLE}
    inner = (evals.get("category_scores"), evals.get("simulation_scores"))
    for place in (top, evals, entry.eval_scores, *inner):
        if isinstance(place, Mapping) and (found := number(find(place, path))) is not None:
            return found
    return None


def mean_of_evals(entry: Entry) -> float | None:
    """The mean of all numbers in `evals`, however deep; None without any."""
    found = sorted(value for _, value in numbers_in(entry.evals))  # the order of a dict must not show in a sum
    mean = sum(value / len(found) for value in found)
    return mean if found and isfinite(mean) else None


def ranked(entries: Iterable[Entry], metric: str | None = None, *, lowest: bool = False) -> list[Entry]:
    """The checkpoints, best first.

    Best is the highest (or lowest) `metric`. Without one it is the first of these that any of the
    checkpoints has: score, the mean of evals, avg_reward; else the latest. A checkpoint without the number
    comes after all that have it; ties go to the later epoch, then agent_step, then name.
    """
    entries = list(entries)
    return _ranked(entries, _measure(entries, metric), lowest=lowest)


_NOTHING = _Measure("", lambda _: None)
_MEASURES = (
    _Measure("score", lambda entry: entry.score),
    _Measure("mean of evals", mean_of_evals),
    _Measure("avg_reward", lambda entry: entry.avg_reward),
)


def _measure(entries: Sequence[Entry], path: str | None) -> _Measure:
    if path is not None:
        return _Measure(path, lambda entry: metric(entry, path))
    return next((one for one in _MEASURES if any(one.of(entry) is not None for entry in entries)), _NOTHING)


def _ranked(entries: Sequence[Entry], measure: _Measure, *, lowest: bool) -> list[Entry]:
    def order(entry: Entry) -> tuple[bool, float, tuple[bool, int, bool, int, str]]:
        value = measure.of(entry)
        return value is not None, -(value or 0.0) if lowest else value or 0.0, _age(entry)

    return sorted(entries, key=order, reverse=True)


def _age(entry: Entry) -> tuple[bool, int, bool, int, str]:
    """Sorts later checkpoints behind earlier ones, and unknown epochs before all known ones."""
    epoch, step = entry.epoch, entry.agent_step
    return epoch is not None, epoch or 0, step is not None, step or 0, entry.name


def find(node: Mapping[str, JSON], path: str) -> JSON:
    """What stands at a dotted path; a key may hold dots itself. None when nothing does."""
    if path in node:
        return node[path]
    for dot in re.finditer(r"\.", path):
        inside = node.get(path[: dot.start()])
        if isinstance(inside, Mapping) and (found := find(inside, path[dot.end() :])) is not None:
            return found
    return None


# --- choosing ---------------------------------------------------------------------------------------------


def select(index: Index, selector: str | None) -> Choice:
    """Choose one: `latest`, `best`, `best=METRIC`, `min=METRIC`, `epoch=N` or NAME; None is the root.

    With a choice by a number goes how sure it is. Another checkpoint counts as within the error of the
    chosen one when their numbers differ by at most sqrt(a² + b²), a and b being their standard errors. The
    only known one is `reward_sem`, so this is said only of numbers that are, or equal, `avg_reward`.

    Raises:
        NotFoundError: no such checkpoint; says what there is.
        UsageError: N is no whole number.
    """
    entries = index.entries
    if not entries:
        raise NotFoundError(selector or "root", "The repo holds no checkpoint yet.")
    if selector is None:
        return _root(index)
    kind, _, argument = selector.partition("=")
    if selector == "latest":
        return _latest(entries, f"latest of {len(entries)}")
    if selector == "best" or (kind in {"best", "min"} and argument):
        return _best(entries, argument or None, lowest=kind == "min")
    if kind == "epoch" and argument:
        return _by_epoch(entries, argument)
    return _by_name(entries, selector)


def _root(index: Index) -> Choice:
    for entry in index.entries:
        if entry.name == index.root:
            return Choice(entry, "the root of the repo")
    hint = f"choose one, for example :best or :{index.entries[0].name}"
    raise NotFoundError("root", "No checkpoint stands at the root of the repo.", hint=hint)


def _latest(entries: Sequence[Entry], why: str) -> Choice:
    entry = max(entries, key=_age)
    return Choice(entry, f"{why}: epoch {entry.epoch}" if entry.epoch is not None else f"{why}, no epoch is known")


def _best(entries: Sequence[Entry], path: str | None, *, lowest: bool) -> Choice:
    measure = _measure(entries, path)
    if measure is _NOTHING:
        return _latest(entries, f"latest of {len(entries)}, as none has a score, evals or avg_reward")
    entry = _ranked(entries, measure, lowest=lowest)[0]
    if measure.of(entry) is None:
        raise NotFoundError(measure.name, f"No checkpoint has a number '{measure.name}'.", hint=_metrics(entries))
    having = [one for one in entries if measure.of(one) is not None]
    why = [f"{'lowest' if lowest else 'best'} of {len(having)} by {measure.name}"]
    if len(having) < len(entries):
        why.append(f"{len(entries) - len(having)} without it")
    if near := sum(_within_error(entry, one, measure) for one in having if one is not entry):
        why.append("1 other is within its error" if near == 1 else f"{near} others are within its error")
    return Choice(entry, "; ".join(why))


def _within_error(one: Entry, other: Entry, measure: _Measure) -> bool:
    a, b = measure.of(one), measure.of(other)
    if a is None or b is None or one.reward_sem is None or other.reward_sem is None:
        return False
    if a != one.avg_reward or b != other.avg_reward:
        return False
    return abs(a - b) <= hypot(one.reward_sem, other.reward_sem)


def _by_epoch(entries: Sequence[Entry], text: str) -> Choice:
    if not (text.isascii() and text.isdigit() and len(text) < _LONGEST_SHOWN):
        raise UsageError(f"'{text}' is no epoch.", hint="for example epoch=140")
    wanted = int(text)
    found = [entry for entry in entries if entry.epoch == wanted]
    if found:
        more = f", the later of {len(found)} with it" if len(found) > 1 else ""
        return Choice(max(found, key=_age), f"epoch {wanted}{more}")
    known = {entry.epoch for entry in entries if entry.epoch is not None}
    near = sorted(sorted(known, key=lambda epoch: abs(epoch - wanted))[:3])
    hint = f"the nearest are {', '.join(map(str, near))}" if near else "no epoch is known of any of them"
    raise NotFoundError(f"epoch={text}", f"No checkpoint is of epoch {wanted}.", hint=hint)


def _by_name(entries: Sequence[Entry], name: str) -> Choice:
    for entry in entries:
        if entry.name.lower() == name.lower():
            return Choice(entry, "asked for by name")
    latest = [entry.name for entry in sorted(entries, key=_age, reverse=True)]
    near = difflib.get_close_matches(name, latest[:_COMPARED], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else _listed("there is", latest)
    raise NotFoundError(name, f"None of the {len(entries)} checkpoints is called '{name}'.", hint=hint)


def _metrics(entries: Sequence[Entry]) -> str:
    """What there is to choose by, in words; only names that are safe to print."""
    found: dict[str, None] = {}
    for entry in entries[-_COMPARED:]:
        for key in ("score", "avg_reward", "evals", "eval_scores"):
            found |= dict.fromkeys(path for path, _ in numbers_in(getattr(entry, key), key))
    shown = [path for path in found if path.isprintable() and len(path) <= _LONGEST_SHOWN]
    return _listed("there is", shown) if shown else "no metric is known of any of them"


def _listed(lead: str, words: Sequence[str]) -> str:
    return f"{lead} {', '.join(words[:_SHOWN])}" + (", ..." if len(words) > _SHOWN else "")
