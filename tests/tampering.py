"""Files that somebody writes to while they are being published, at every moment at which they are opened."""

import itertools
import os
import shutil
import sys
from pathlib import Path

from metta_hub.errors import MettaHubError


def _replace(path: Path, other: Path) -> None:
    beside = path.with_name("written-elsewhere")
    shutil.copy(other, beside)
    beside.replace(path)


def _append(path: Path, _: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _truncate(path: Path, _: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _rewrite(path: Path, other: Path) -> None:
    """In place, and in these tests by as many bytes."""
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def _remove(path: Path, _: Path) -> None:
    path.unlink()


ACTIONS = {"replace": _replace, "append": _append, "truncate": _truncate, "rewrite": _rewrite, "remove": _remove}


def fresh(pt: Path, folder: Path) -> Path:
    """A copy of a pair that looks as if nobody had written to it for long: clocks of files tick slowly."""
    folder.mkdir(parents=True)
    for file in (pt, pt.with_suffix(".json")):
        os.utime(shutil.copy(file, folder / file.name), (1, 1))
    return folder / pt.name


class Opened:
    """Calls a function just before the n-th time that this process opens a file."""

    def __init__(self) -> None:
        self._path, self._left, self._work = "", 0, lambda: None
        sys.addaudithook(self._hook)

    def arm(self, path: Path, number: int, work) -> None:
        self._path, self._left, self._work = str(path), number, work

    @property
    def fired(self) -> bool:
        return self._left == 0

    def _hook(self, event: str, arguments: tuple) -> None:
        if event != "open" or not self._left or str(arguments[0]) != self._path:
            return
        self._left -= 1
        if self.fired:
            self._work()


def push_through_all(pt: Path, other: Path, folder: Path, repo_id: str) -> list[dict]:
    """Push a pair again and again, each time with its `.pt` written to in another way, at another time of opening it.

    Returns:
        action, number, the name and words of the error (or "" when it was published), sha256 of the file afterwards.
    """
    import metta_hub
    from metta_hub.containers import copying

    opened, found = Opened(), []
    for action, work in ACTIONS.items():
        for number in itertools.count(1):
            source = fresh(pt, folder / f"{action}{number}")
            opened.arm(source, number, lambda source=source, work=work: work(source, other))
            name = words = ""
            try:
                metta_hub.push(source, f"{repo_id}-{action}{number}")
            except (MettaHubError, OSError) as error:
                name, words = type(error).__name__, f"{error} Hint: {getattr(error, 'hint', '')}"
            if not opened.fired:
                break
            sha256 = copying.digest(source).sha256 if source.exists() else ""
            found.append({"action": action, "number": number, "error": name, "words": words, "sha256": sha256})
    return found


if __name__ == "__main__":
    import json

    pt, other, folder, repo_id = sys.argv[1:]
    print(json.dumps(push_through_all(Path(pt), Path(other), Path(folder), repo_id)))
