"""Run Python that is killed with SIGKILL just before its n-th change of files whose path begins with PREFIX.

    python dying.py PREFIX N -c CODE ARGUMENT...
    python dying.py PREFIX N -m MODULE ARGUMENT...

Changes are what Python's audit events tell of: files opened for writing, locked, renamed, linked, removed, and folders
made and removed. A process that makes fewer of them ends as it would have.
"""

import itertools
import os
import runpy
import signal
import sys
from pathlib import Path

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "shutil.move"}


def killed_before_change(prefix: str, number: int):
    """An audit hook that kills its process before change `number`, counted from 1."""
    counter, me = itertools.count(1), os.getpid()

    def hook(event: str, arguments: tuple) -> None:
        paths = (os.fsdecode(one) for one in _changed(event, arguments) if isinstance(one, str | bytes | os.PathLike))
        if any(path.startswith(prefix) for path in paths) and next(counter) == number:
            os.kill(me, signal.SIGKILL)

    return hook


def _changed(event: str, arguments: tuple) -> tuple:
    """What an event changes; nothing for most."""
    if event == "open":
        path, _, flags = arguments
        return (path,) if flags & (os.O_WRONLY | os.O_RDWR) else ()
    if event == "fcntl.flock":
        return (_path_of(arguments[0]),)
    return arguments[:2] if event in _CHANGES else ()


def _path_of(descriptor: int) -> str:
    """Where the file behind a descriptor is, on systems that say so; else a lock is no moment of its own."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""


def main() -> None:
    prefix, number, kind, what, *arguments = sys.argv[1:]
    sys.addaudithook(killed_before_change(prefix, int(number)))
    sys.argv = [what, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


if __name__ == "__main__":
    main()
