"""The pair when writers die, are interrupted, or meet: never a `.pt` of one write with the JSON of another."""

import errno
import fcntl
import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Thread

import pytest

from metta_hub import errors, formats
from metta_hub.containers import copying
from metta_hub.formats import files, pair
from metta_hub.metadata import block_for
from support import DATA, killed_at_change

OLD = DATA / "run" / "model_000140.pt"
NEW = DATA / "run" / "model_000202.pt"
NAME = "model_000140"
EPOCHS = {140: OLD, 202: NEW}

WRITE = """
import sys
from dataclasses import replace
from pathlib import Path
from metta_hub.formats import pair
from metta_hub.metadata import block_for
folder, times, *sources = sys.argv[1:]
for turn in range(int(times)):
    checkpoint = replace(pair.read(Path(sources[turn % len(sources)])), name="model_000140")
    pair.write(checkpoint, Path(folder), block=block_for(checkpoint.metadata), force=True)
"""


def write(source, folder, **options):
    checkpoint = replace(pair.read(source), name=NAME)
    return pair.write(checkpoint, folder, block=block_for(checkpoint.metadata), **options)


def temporary_files(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def epoch_of_whole_pair(folder):
    """The epoch of the pair in a folder, whose weights are that epoch's to the last byte; None when there is none."""
    pt = folder / f"{NAME}.pt"
    if not pt.exists():
        assert pair.find(folder) == []
        return None
    checkpoint = pair.read(pt)
    epoch = checkpoint.metadata.values["epoch"]
    assert pair.read_metadata(pt).values["epoch"] == epoch
    assert copying.digest(pt) == copying.digest(EPOCHS[epoch])
    assert checkpoint.metadata.block["weights"]["sha256"] == copying.digest(pt).sha256
    return epoch


@pytest.mark.parametrize("before", [None, 140], ids=["into an empty folder", "over an older pair"])
def test_a_writer_killed_before_any_of_its_changes_leaves_a_whole_pair(tmp_path, before):
    seen = []
    for number in count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        if before:
            write(OLD, folder)
        killed = killed_at_change(folder, number, "-c", WRITE, folder, 1, NEW)
        seen.append(epoch_of_whole_pair(folder))
        assert seen[-1] in {before, 202}, f"killed before change {number}"
        write(NEW, folder, force=True)
        assert epoch_of_whole_pair(folder) == 202, f"killed before change {number}"
        assert not temporary_files(folder), f"killed before change {number}"
        if not killed:
            break
    assert len(seen) > 6
    assert seen[0] == before
    assert seen[-2] == 202


def test_an_interrupt_between_the_renames_keeps_what_completes_them(tmp_path, monkeypatch):
    write(OLD, tmp_path)
    rename = Path.replace

    def interrupted(self, target):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(NEW, tmp_path, force=True)
    assert epoch_of_whole_pair(tmp_path) == 202
    write(NEW, tmp_path)
    assert epoch_of_whole_pair(tmp_path) == 202
    assert not temporary_files(tmp_path)


def test_writers_and_readers_at_once_never_see_or_make_a_mixed_pair(tmp_path):
    write(OLD, tmp_path)
    command = [sys.executable, "-c", WRITE, str(tmp_path), "1000000"]
    writers = [subprocess.Popen([*command, str(one), str(two)]) for one, two in [(OLD, NEW), (NEW, OLD)]]
    tensors = {epoch: copying.read_tensor(*last_tensor(pair.read(pt))) for epoch, pt in EPOCHS.items()}
    seen, changed = [], 0
    try:
        while len(seen) < 100 or set(seen) != {140, 202} or not changed:
            assert [writer.poll() for writer in writers] == [None, None]
            try:
                checkpoint = pair.read(tmp_path / f"{NAME}.pt")
            except errors.SourceChangedError:  # the writers are quick here
                changed += 1
                continue
            try:
                content = copying.read_tensor(*last_tensor(checkpoint))
            except errors.FormatError:
                assert checkpoint.origin.changed()
            if checkpoint.origin.changed():
                changed += 1
                continue
            seen.append(checkpoint.metadata.values["epoch"])
            assert content == tensors[seen[-1]]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert epoch_of_whole_pair(tmp_path) in EPOCHS
    write(NEW, tmp_path, force=True)
    assert not temporary_files(tmp_path)


def last_tensor(checkpoint):
    return checkpoint.weights, checkpoint.weights.tensors[-1]


PAUSE = """
import sys
from pathlib import Path
rename = Path.replace
def pausing(self, target):
    rename(self, target)
    if target.suffix == ".pt":
        print("between the renames", flush=True)
        sys.stdin.readline()
Path.replace = pausing
"""


def test_a_writer_waits_for_one_that_is_between_its_renames(tmp_path):
    write(OLD, tmp_path)
    command = [sys.executable, "-c", PAUSE + WRITE, str(tmp_path), "1", str(NEW)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "between the renames\n"
        assert epoch_of_whole_pair(tmp_path) == 202
        second = Thread(target=write, args=(OLD, tmp_path), kwargs={"force": True})
        second.start()
        second.join(0.3)
        assert epoch_of_whole_pair(tmp_path) == 202
        first.communicate("\n")
    second.join()
    assert first.returncode == 0
    assert epoch_of_whole_pair(tmp_path) == 140
    assert not temporary_files(tmp_path)


def test_a_power_failure_finds_every_step_on_the_disk_before_the_next(tmp_path, monkeypatch):
    log, sync, rename = [], os.fsync, Path.replace

    def synced(descriptor):
        sync(descriptor)
        paths = [tmp_path, *tmp_path.iterdir()]
        log.append(next(path for path in paths if os.path.samestat(path.stat(), os.fstat(descriptor))))

    def renamed(self, target):
        log.append((self, target))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write(OLD, tmp_path)
    (new_pt, pt), (new_json, document) = (step for step in log if isinstance(step, tuple))
    assert log == [new_pt, new_json, tmp_path, (new_pt, pt), tmp_path, (new_json, document), tmp_path]
    assert (pt.name, document.name) == (f"{NAME}.pt", f"{NAME}.json")


def test_a_directory_in_the_place_of_the_json_is_refused_before_anything_is_renamed(tmp_path):
    (tmp_path / f"{NAME}.json").mkdir()
    with pytest.raises(errors.ConflictError, match="is a folder"):
        write(NEW, tmp_path, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.json"]


@pytest.mark.parametrize("share", [0, 0.5])
def test_what_a_dead_writer_began_makes_no_pair_of_a_lone_pt(tmp_path, share):
    written = write(OLD, tmp_path)
    document = written.json.read_bytes()
    written.json.unlink()
    begun = files.temporary_name(written.json, "0123abcd")
    begun.write_bytes(document[: int(len(document) * share)])
    assert formats.read(written.pt).origin.format == "state dict"
    assert pair.find(tmp_path) == []
    begun.write_bytes(document)
    assert formats.read(written.pt).origin.format == "pair"


def test_the_next_writer_finishes_what_was_begun_of_other_pairs_too(tmp_path):
    """A writer died between its renames, one before; the next one writes another checkpoint to that folder."""
    write(OLD, tmp_path)
    (tmp_path / f"{NAME}.json").rename(tmp_path / f".{NAME}.json.0123abcd.tmp")
    (tmp_path / ".other.name.pt.89abcdef.tmp").write_bytes(b"half")
    (tmp_path / ".other.name.json.89abcdef.tmp").touch()
    checkpoint = pair.read(NEW)
    pair.write(checkpoint, tmp_path, block=block_for(checkpoint.metadata))
    assert temporary_files(tmp_path) == []
    assert epoch_of_whole_pair(tmp_path) == 140
    assert [path.stem for path in pair.find(tmp_path)] == [NAME, "model_000202"]


def test_what_is_no_temporary_file_is_left_alone(tmp_path):
    odd = files.temporary_name(tmp_path / f"{NAME}.json", "0123abcd")
    odd.mkdir()
    write(OLD, tmp_path)
    assert epoch_of_whole_pair(tmp_path) == 140
    assert odd.is_dir()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Nobody can tell there whether a writer lives: its files stay."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    left = files.temporary_name(tmp_path / f"{NAME}.pt", "0123abcd")
    left.write_bytes(b"half")
    monkeypatch.setattr(fcntl, "flock", refuse)
    write(OLD, tmp_path)
    assert epoch_of_whole_pair(tmp_path) == 140
    assert temporary_files(tmp_path) == [left.name]


RESTLESS = """
import itertools, os, sys
from pathlib import Path
from metta_hub.errors import SourceChangedError
from metta_hub.formats import pair
pt, turns = sys.argv[1], itertools.count()
sys.addaudithook(lambda event, what: os.utime(pt, ns=(0, next(turns))) if event == "open" and what[0] == pt else None)
try:
    pair.read(Path(pt))
except SourceChangedError as error:
    print(error, "|", error.hint)
"""


def test_a_pair_that_never_holds_still_is_not_read(tmp_path):
    written = write(OLD, tmp_path)
    done = subprocess.run([sys.executable, "-c", RESTLESS, str(written.pt)], capture_output=True, text=True, check=True)
    assert "while it was being read" in done.stdout
    assert "when nobody writes to it" in done.stdout
