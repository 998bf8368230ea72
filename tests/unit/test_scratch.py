"""The folder to work in: gone afterwards, and when its process was killed, gone with the next one."""

import os
import subprocess
import sys
from itertools import count

import pytest

from metta_hub.formats import scratch
from support import killed_at_change

WORK = """
from metta_hub.formats import scratch
with scratch.folder() as folder:
    (folder / "model.safetensors").write_bytes(b"1")
    (folder / "original.pt").write_bytes(b"2")
"""


def work():
    subprocess.run([sys.executable, "-c", WORK], check=True)


def test_the_folder_is_nobody_elses_and_gone_afterwards(temporary):
    with scratch.folder() as folder:
        assert folder.parent == temporary
        assert oct(folder.stat().st_mode)[-3:] == "700"
        (folder / "file").write_bytes(b"1")
    assert not list(temporary.iterdir())


def test_killed_before_any_of_its_changes_the_next_one_removes_it(temporary):
    for number in count(1):
        killed = killed_at_change(temporary / scratch.PREFIX, number, "-c", WORK)
        work()
        assert not list(temporary.iterdir()), f"killed before change {number}"
        if not killed:
            break
    assert number > 6


def test_a_living_processs_folder_is_left_alone(temporary):
    with scratch.folder() as folder:
        (folder / "file").write_bytes(b"1")
        work()
        assert (folder / "file").read_bytes() == b"1"
        with scratch.folder() as other:
            assert other != folder
        assert (folder / "file").exists()
    assert not list(temporary.iterdir())


def test_many_at_once(temporary):
    many = f"for _ in range(300):\n    {WORK.strip().replace(chr(10), chr(10) + '    ')}"
    workers = [subprocess.Popen([sys.executable, "-c", many], stderr=subprocess.PIPE) for _ in range(4)]
    done = [(worker.communicate()[1].decode(), worker.returncode) for worker in workers]
    assert done == [("", 0)] * 4
    assert not list(temporary.iterdir())


def test_folders_that_only_look_like_it_are_left_alone(temporary, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / scratch.OWNER).touch()
    (temporary / f"{scratch.PREFIX}mylink00").symlink_to(mine)
    for name in (f"{scratch.PREFIX}20250101", "metta-hub-20250101", f"{scratch.PREFIX}2025"):
        (temporary / name).mkdir()
        (temporary / name / "notes.txt").touch()
    (temporary / f"{scratch.PREFIX}notadir0").touch()
    before = sorted(temporary.rglob("*"))
    work()
    assert sorted(temporary.rglob("*")) == before
    assert (mine / scratch.OWNER).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to somebody else")
def test_another_users_folder_is_left_alone(temporary):
    theirs = temporary / f"{scratch.PREFIX}abcdefgh"
    theirs.mkdir()
    (theirs / scratch.OWNER).touch()
    os.chown(theirs, 12345, 12345)
    work()
    assert (theirs / scratch.OWNER).exists()
