"""scan: a survey of many files, which changes nothing. walk → group → look → judge → total, file by file."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from metta_hub import names
from metta_hub.api import targets
from metta_hub.api.report import Report, counting, silent
from metta_hub.api.survey.grouping import Candidate, Grouping
from metta_hub.api.survey.judge import Judge, ScannedFile
from metta_hub.api.survey.local import LocalPlace
from metta_hub.api.survey.places import Place
from metta_hub.api.survey.remote import RemotePlace
from metta_hub.api.survey.totals import Metered, Tally, Totals
from metta_hub.errors import UsageError

__all__ = ["Scan", "ScannedFile", "Totals", "scan"]

#: How many files more than are looked at at once are waited for, in their order.
_AHEAD = 4


class Scan:
    """A survey that goes on while it is iterated over, once; it holds no more than it must for its totals."""

    def __init__(self, place: Place, report: Report) -> None:
        self._tally = Tally()
        self._place = Metered(place, self._tally.read)
        self._report = report

    @property
    def totals(self) -> Totals:
        """What was found so far."""
        return self._tally.totals()

    def __iter__(self) -> Iterator[ScannedFile]:
        """The checkpoints, and what only looks like one.

        Raises:
            FileError: an object store does not answer.
        """
        with counting(self._report, "scan", lambda: self._tally.files, "file"):
            for candidate, found in self._judged():
                if isinstance(found, OSError):
                    self._tally.unreadable(candidate, found.strerror or type(found).__name__)
                elif found is not None:
                    self._tally.found(candidate, found)
                    yield found
        self._tally.complete = True

    def _judged(self) -> Iterator[tuple[Candidate, ScannedFile | OSError | None]]:
        judge = Judge(self._place)

        def judged(candidate: Candidate) -> tuple[Candidate, ScannedFile | OSError | None]:
            try:
                return candidate, judge.judge(candidate)
            except OSError as error:
                return candidate, error

        if self._place.jobs == 1:
            yield from map(judged, self._candidates())
            return
        with ThreadPoolExecutor(self._place.jobs) as pool:
            waiting: deque[Future[tuple[Candidate, ScannedFile | OSError | None]]] = deque()
            try:
                for candidate in self._candidates():
                    waiting.append(pool.submit(judged, candidate))
                    if len(waiting) >= self._place.jobs * _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _candidates(self) -> Iterator[Candidate]:
        grouping = Grouping(self._place, self._tally.file)
        single = self._place.single()
        if single is not None:
            return grouping.single(*single)
        return chain.from_iterable(map(grouping.candidates, self._place.batches(self._tally)))


def scan(path: Path | str, *, report: Report = silent) -> Scan:
    """Survey a tree of files: which checkpoints are there, of which format and era, and what can be done with them.

    Nothing is changed, and of each file only its first bytes are read, and its last where those tell. Links are not
    followed. The survey goes on while the result is iterated over; its `totals` are complete afterwards.

    Args:
        path: a folder, a file, or an address that fsspec knows, as `s3://bucket/folder`.
        report: shown how far it is.

    Raises:
        NotFoundError: nothing is there.
        UsageError: the address is of no kind that can be surveyed.
        MissingDependencyError: the package for it is not installed.
        FileError: an object store does not answer.
    """
    text = str(path)
    if text.startswith(names.SCHEME):
        raise UsageError(f"{text} is on a Hub, and scan surveys files.", hint=f"metta-hub list {text}")
    is_local = "://" not in text or text.startswith("file://")
    return Scan(LocalPlace(targets.source(text)) if is_local else RemotePlace(text), report)
