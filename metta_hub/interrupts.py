"""Signals that wait until a few steps are done which belong together."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

#: What asks a process to stop.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held() -> Iterator[None]:
    """Have a signal that comes while the body runs wait for its end; a second one does not wait.

    Handlers run in the main thread: anywhere else there is nothing to hold.
    """
    if current_thread() is not main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers = {number: handler for number in STOPPING if callable(handler := signal.getsignal(number))}

    def wait(number: int, frame: FrameType | None) -> None:
        if came:
            handlers[signal.Signals(number)](number, frame)
        came.append((number, frame))

    for number in handlers:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        first, frame = came[0]
        handlers[signal.Signals(first)](first, frame)
