"""Which of several policies: Metta's selectors `all`, `latest`, `rand` and `top`."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metta_hub import history
from metta_hub.api.report import Report
from metta_hub.errors import BadValueError, MetadataError
from metta_hub.history import Entry
from metta_hub.metadata import JSON, Metadata, from_values, number

SELECTORS = ("all", "latest", "rand", "top")
#: The metric when none is named: of policies without it their evaluations are taken.
SCORE = "score"
#: Where a metric may stand, in the order of looking: Metta's trainer, everybody, Metta's interface.
_PLACES = (("eval_scores",), (), ("evals",), ("evals", "category_scores"), ("evals", "simulation_scores"))
#: Of how many policies all metadata are read for a metric that an index does not have.
_READ = 200
#: How many of ten must have a metric for it to decide.
_ENOUGH = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that may be chosen.

    Attributes:
        uri: where it is.
        entry: its line in an index.
        values: what is known of it without another request.
        read: gives all of its metadata.
    """

    uri: str
    entry: Entry
    values: Mapping[str, JSON]
    read: Callable[[], Metadata]


@dataclass(frozen=True, slots=True)
class _Measured:
    """What decided, and each candidate's number; None where it has none."""

    name: str
    numbers: list[float | None]


def newest_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By epoch, then agent steps, then name; those of which no epoch is known come last."""
    by_name = sorted(candidates, key=lambda one: one.entry.name)
    return sorted(by_name, key=_age, reverse=True)


def _age(one: Candidate) -> tuple[bool, int, bool, int]:
    epoch, step = one.entry.epoch, one.entry.agent_step
    return epoch is not None, epoch or 0, step is not None, step or 0


def choose(candidates: Sequence[Candidate], selector: str, n: int, metric: str, report: Report) -> list[Candidate]:
    """Choose among policies.

    Args:
        candidates: one or more, newest first.
        selector: `all`; `latest`, the first; `rand`, any one; or `top`, the `n` with the highest `metric`.
        n: how many, at most, for `top`.
        metric: a name, as `score` or `navigation`, or a dotted path.
        report: told when a metric did not decide, or too few have it.

    Raises:
        BadValueError: another selector, or `n` is no number of policies (a ValueError).
    """
    if selector not in SELECTORS:
        hint = f"it is one of {', '.join(SELECTORS)}; in an hf:// reference, :best and :epoch=N choose, too"
        raise BadValueError("selector_type", f"Invalid selector type: {selector}", hint=hint)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise BadValueError("n", f"{n!r} policies cannot be chosen.", hint="n is 1 or more")
    if selector == "all":
        return list(candidates)
    if selector == "rand":
        return [random.choice(candidates)]  # noqa: S311  (no secret)
    return _top(candidates, n, metric, report) if selector == "top" else [candidates[0]]


def _top(candidates: Sequence[Candidate], n: int, metric: str, report: Report) -> list[Candidate]:
    if len(candidates) == 1:
        return list(candidates)
    measured = _measure(candidates, metric)
    having = [(value, one) for value, one in zip(measured.numbers, candidates, strict=True) if value is not None]
    if not having or 10 * len(having) < _ENOUGH * len(candidates):
        report(
            "warning", f"{len(having)} of {len(candidates)} have '{metric}', too few to decide: the newest is taken."
        )
        return [candidates[0]]
    if measured.name != metric:
        report("note", f"None has '{metric}': {measured.name} decides.")
    if len(having) < n:
        report("warning", f"{n} were asked for, and {len(having)} have '{metric}'.")
    return [one for _, one in sorted(having, key=lambda pair: pair[0], reverse=True)[:n]]


def _measure(candidates: Sequence[Candidate], metric: str) -> _Measured:
    values = [one.values for one in candidates]
    found = _placed(values, metric) or _evaluated(candidates, metric)
    if found is None and len(candidates) <= _READ:  # an index has the usual metrics alone
        found = _placed([one.read().values for one in candidates], metric)
    return found or _Measured(metric, [None] * len(candidates))


def _placed(values: Sequence[Mapping[str, JSON]], metric: str) -> _Measured | None:
    """The numbers at one place for all: that at which the first has one that has any. Others are not comparable."""
    for one in values:
        for place in _PLACES:
            if _number_at(one, place, metric) is not None:
                return _Measured(metric, [_number_at(other, place, metric) for other in values])
    return None


def _evaluated(candidates: Sequence[Candidate], metric: str) -> _Measured | None:
    """What decides when no policy has a score: as in `best` of a reference."""
    if metric != SCORE:
        return None
    means = [history.mean_of_evals(one.entry) for one in candidates]
    rewards = [one.entry.avg_reward for one in candidates]
    for name, numbers in (("the mean of evals", means), ("avg_reward", rewards)):
        if any(value is not None for value in numbers):
            return _Measured(name, numbers)
    return None


def _number_at(values: Mapping[str, JSON], place: Sequence[str], metric: str) -> float | None:
    node: JSON = dict(values)
    for key in place:
        node = node.get(key) if isinstance(node, dict) else None
    return _number(history.find(node, metric)) if isinstance(node, dict) else None


def _number(value: JSON) -> float | None:
    """A number; also one that Metta's JSON made a text of, read as the schema reads a score."""
    if isinstance(value, str):
        try:
            value = from_values({SCORE: value}).values[SCORE]
        except MetadataError:
            return None
    return number(value)
