"""Keeping huggingface_hub from talking: what a user should see, our own caller says."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from metta_hub.hub.refusals import without_queries

#: Bytes that take over a second to move for most people.
LONG_WORK = 20_000_000


@contextmanager
def bars(size: int) -> Iterator[None]:
    """Show the client's progress bars for long work on a terminal, and only then; the user's own setting wins."""
    wanted = size >= LONG_WORK and sys.stderr.isatty()
    if wanted or constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def no_xet_warning() -> Iterator[None]:
    """Keep the client from warning about the very thing that we ask of it: an upload without xet."""

    def keep(record: logging.LogRecord) -> bool:
        return "not supported by Xet" not in record.getMessage()

    logger = logging.getLogger("huggingface_hub._commit_api")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def hide_signatures() -> None:
    """Keep the client from showing signed links when it says that it tries again: whoever has one may use it."""
    logging.getLogger("huggingface_hub.utils._http").addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_queries(record.getMessage()), None
    return True
