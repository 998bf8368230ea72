"""One table from whatever stopped a command to a sentence, a hint and an exit code."""

import contextlib
import errno
import os
import signal
import sys
import traceback
from types import FrameType

from metta_hub.cli import help as help_
from metta_hub.cli.output import Output, talk
from metta_hub.errors import MettaHubError, UsageError
from metta_hub.interrupts import STOPPING

FAILED, WRONG_USAGE, BY_SIGNAL = 1, 2, 128
_TELL = "HF_DEBUG=1 shows the whole traceback"
_FILE_HINTS = {
    errno.EACCES: "ask its owner, or copy it to where you may read it",
    errno.EPERM: "ask its owner, or copy it to where you may read it",
    errno.ENOENT: "it was there a moment ago: run the same command again",
    errno.EIO: "its disk may be failing: copy it elsewhere, and run the same command there",
}
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})  # huggingface_hub's


class Stopped(BaseException):
    """A signal that asks to stop; everything that is being written is cleaned up on its way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_on_signals() -> None:
    """Have Ctrl-C, SIGTERM and a closed terminal raise `Stopped`, so that no temporary file outlives any of them."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as whoever started us in the background may want it
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def let_finish() -> None:
    """From now on ignore all of them: what was asked for is done, and only the interpreter is left to go."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def explain(error: BaseException, *, as_json: bool | None = None) -> int:
    """Say what stopped the command; return the exit code.

    Args:
        error: what stopped it.
        as_json: whether stdout gets a value that says so; None when --json decides.

    HF_DEBUG=1 shows the traceback first; otherwise nobody ever sees one.
    """
    if os.environ.get("HF_DEBUG", "").upper() in _TRUE:
        talk("".join(traceback.format_exception(error)).rstrip("\n"))
    if isinstance(error, BrokenPipeError):  # whoever read our output has had enough
        return FAILED
    # The command's own flags are not known here: it stopped before it returned, or never began.
    wants_json = "--json" in sys.argv if as_json is None else as_json
    output = Output(wants_json, quiet=bool({"-q", "--quiet"} & set(sys.argv)))
    sentence, hint, code, kind = _described(error)
    with contextlib.suppress(OSError, MettaHubError):  # stdout may be what failed
        output.failure(kind, sentence, hint)
    return code


def _described(error: BaseException) -> tuple[str, str, int, str]:
    """Sentence, hint, exit code, and the name of the kind."""
    stop = _stop_behind(error)
    if stop is not None:
        name = signal.Signals(stop).name
        return f"Stopped by {name}; run the same command again, nothing is done twice.", "", BY_SIGNAL + stop, "Stopped"
    if isinstance(error, help_.ParserError):
        error = help_.in_words(error)
    kind = type(error).__name__
    if isinstance(error, MettaHubError):
        return str(error), error.hint, WRONG_USAGE if isinstance(error, UsageError) else FAILED, kind
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}.", _FILE_HINTS.get(error.errno or 0, _TELL), FAILED, kind
    words = f"Unexpected {kind}: {' '.join(str(error).split())[:500]}"
    return words, f"{_TELL}; please report it", FAILED, kind


def _stop_behind(error: BaseException | None) -> int | None:
    """The signal that led to an error; what was interrupted may have failed in a way of its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, Stopped):
            return error.number
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
