"""One table from whatever stopped a command to a sentence, a hint and an exit code."""

import contextlib
import os
import signal
import sys
import traceback
from types import FrameType

from metta_hub.cli import help as help_
from metta_hub.cli.output import Output, talk
from metta_hub.errors import MettaHubError, UsageError

FAILED, WRONG_USAGE, BY_SIGNAL = 1, 2, 128
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})  # huggingface_hub's


class Stopped(BaseException):
    """A signal that asks to stop; everything that is being written is cleaned up on its way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_on_signals() -> None:
    """Have SIGINT and SIGTERM raise `Stopped`, so that no temporary file outlives either."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as whoever started us in the background may want it
            signal.signal(number, stop)


def explain(error: BaseException) -> int:
    """Say what stopped the command; return the exit code.

    HF_DEBUG=1 shows the traceback first; otherwise nobody ever sees one.
    """
    if os.environ.get("HF_DEBUG", "").upper() in _TRUE:
        talk("".join(traceback.format_exception(error)).rstrip("\n"))
    if isinstance(error, BrokenPipeError):  # whoever read our output has had enough
        return FAILED
    # The command's own flags are not known here: it stopped before it returned, or never began.
    output = Output(as_json="--json" in sys.argv, quiet=bool({"-q", "--quiet"} & set(sys.argv)))
    sentence, hint, code, kind = _described(error)
    with contextlib.suppress(OSError, MettaHubError):  # stdout may be what failed
        output.failure(kind, sentence, hint)
    return code


def _described(error: BaseException) -> tuple[str, str, int, str]:
    """Sentence, hint, exit code, and the name of the kind."""
    if isinstance(error, help_.ParserError):
        error = help_.in_words(error)
    kind = type(error).__name__
    if isinstance(error, MettaHubError):
        return str(error), error.hint, WRONG_USAGE if isinstance(error, UsageError) else FAILED, kind
    if isinstance(error, Stopped | KeyboardInterrupt):
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        sentence = f"Stopped by {signal.Signals(number).name}; run the same command again, nothing is sent twice."
        return sentence, "", BY_SIGNAL + number, "Stopped"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}.", "", FAILED, kind
    words = f"Unexpected {kind}: {' '.join(str(error).split())[:500]}"
    return words, "HF_DEBUG=1 shows the whole traceback; please report it", FAILED, kind
