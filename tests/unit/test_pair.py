"""The pair on disk: written as one, even when the writer dies between its two renames."""

import json
import os
import signal
import subprocess
import sys

import pytest

from metta_hub import errors
from metta_hub.checkpoint import FileState
from metta_hub.formats import files, pair
from metta_hub.metadata import block_for
from support import DATA

SOURCE = DATA / "run" / "model_000140.pt"
OTHER = DATA / "run" / "model_000202.pt"


def write(source, folder, name="model_000140", **options):
    from dataclasses import replace

    checkpoint = replace(pair.read(source), name=name)
    return pair.write(checkpoint, folder, block=block_for(checkpoint.metadata), **options)


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_both_files_are_written_and_the_json_names_its_weights(tmp_path):
    written = write(SOURCE, tmp_path)
    assert written.identical
    assert written.pt.read_bytes() == SOURCE.read_bytes()
    document = json.loads(written.json.read_text())
    weights = {"file": "model_000140.pt", "size": written.weights.size, "sha256": written.weights.sha256}
    assert document["metta_hub"]["weights"] == weights
    assert written.json.read_text().startswith('{\n  "epoch": 140,\n')
    assert written.json.read_text().endswith("}\n")
    assert not leftovers(tmp_path)
    assert oct(written.pt.stat().st_mode)[-3:] == oct(0o666 & ~umask())[-3:]


def umask():
    current = os.umask(0)
    os.umask(current)
    return current


def test_the_same_pair_again_is_left_alone(tmp_path):
    first = write(SOURCE, tmp_path)
    before = FileState.of(first.pt)
    assert write(SOURCE, tmp_path) == first
    assert FileState.of(first.pt) == before


def test_other_content_is_kept_unless_forced(tmp_path):
    write(SOURCE, tmp_path)
    with pytest.raises(errors.ConflictError, match=r"model_000140\.pt and model_000140\.json"):
        write(OTHER, tmp_path)
    assert (tmp_path / "model_000140.pt").read_bytes() == SOURCE.read_bytes()
    write(OTHER, tmp_path, force=True)
    assert (tmp_path / "model_000140.pt").read_bytes() == OTHER.read_bytes()
    assert not leftovers(tmp_path)


DIE_BETWEEN = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_pair
replace = Path.replace
def die(self, target):
    replace(self, target)
    if str(target).endswith(".pt"):
        os.kill(os.getpid(), 9)
Path.replace = die
test_pair.write(test_pair.OTHER, Path(sys.argv[1]), force=True)
"""


def killed_between_the_renames(folder):
    from pathlib import Path

    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", DIE_BETWEEN.format(tests=tests), str(folder)],
        env=os.environ | {"PYTHONPATH": str(Path(tests).parent)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (folder / "model_000140.pt").read_bytes() == OTHER.read_bytes()
    assert json.loads((folder / "model_000140.json").read_text())["epoch"] == 140


def test_a_reader_between_the_renames_takes_the_finished_json(tmp_path):
    write(SOURCE, tmp_path)
    killed_between_the_renames(tmp_path)
    assert pair.read(tmp_path / "model_000140.pt").metadata.values["epoch"] == 202
    assert pair.read_metadata(tmp_path / "model_000140.pt").values["epoch"] == 202
    assert pair.find(tmp_path) == [tmp_path / "model_000140.pt"]


def test_the_next_writer_completes_the_rename(tmp_path):
    write(SOURCE, tmp_path)
    killed_between_the_renames(tmp_path)
    with pytest.raises(errors.ConflictError):
        write(SOURCE, tmp_path)
    assert json.loads((tmp_path / "model_000140.json").read_text())["epoch"] == 202
    assert not leftovers(tmp_path)


def test_a_living_writers_files_are_left_alone(tmp_path):
    target = tmp_path / "model_000140.pt"
    mine = files.temporary_name(target, "0123abcd")
    with files.owned(mine) as file:
        file.write(b"half")
        write(SOURCE, tmp_path)
        assert mine.exists()
    write(SOURCE, tmp_path)
    assert not leftovers(tmp_path)


def test_a_json_of_another_pt_is_noticed(tmp_path):
    written = write(SOURCE, tmp_path)
    written.pt.write_bytes((DATA / "pairs" / "tiny_small" / "model_0012.pt").read_bytes())
    with pytest.raises(errors.FormatError, match=r"model_000140\.json describes a file of"):
        pair.read(written.pt)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space"):
        write(SOURCE, tmp_path)
    assert list(tmp_path.iterdir()) == []
