"""Packs are looked through in flat memory before anything of them is believed."""

import io
import os
import struct
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from hypothesis import given
from hypothesis import strategies as st

from localhub.helpers import left_unfinished, objects
from metta_hub.localhub import Server
from metta_hub.localhub.errors import UnprocessableError
from metta_hub.localhub.packs import check_sizes

BLOB, OFS_DELTA, REF_DELTA = 3, 6, 7


def number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = b""
    while True:
        out += bytes([value & 127 | (128 if value > 127 else 0)])
        value >>= 7
        if not value:
            return out


def item(kind: int, size: int, content: bytes, base: bytes = b"") -> bytes:
    head, rest = size & 15 | kind << 4, size >> 4
    start = bytes([head | 128]) + number(rest) if rest else bytes([head])
    return start + base + zlib.compress(content)


def pack(*items: bytes) -> io.BytesIO:
    return io.BytesIO(b"PACK" + struct.pack(">II", 2, len(items)) + b"".join(items) + bytes(20))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A pack that git made: commits, trees, files, and deltas of both kinds of base."""
    folder = tmp_path_factory.mktemp("real")

    def git(*words: str, data: bytes = b"") -> bytes:
        names = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(
            ["git", *words], cwd=folder, input=data, check=True, capture_output=True, env=os.environ | names
        ).stdout

    git("init", "-q")
    text = os.urandom(3000).hex()
    for number_ in range(5):
        (folder / "a").write_text(f"{text}{number_}\n")
        (folder / f"b{number_}").write_text(str(number_))
        git("add", ".")
        git("commit", "-q", "-m", str(number_))
    found = git("pack-objects", "--stdout", "--revs", "--delta-base-offset", "--thin", data=b"HEAD\n^HEAD~3\n")
    assert len(found) > 500
    return found


def test_real_packs_pass_and_are_read_again_from_the_same_place(real: bytes):
    file = io.BytesIO(b"before" + real)
    file.seek(6)
    check_sizes(file, 10_000)
    assert file.tell() == 6
    with pytest.raises(UnprocessableError, match="use git-lfs"):
        check_sizes(file, 100)


def test_every_truncation_is_damage(real: bytes):
    for length in range(0, len(real) - 20, 7):
        with pytest.raises(UnprocessableError, match="damaged"):
            check_sizes(io.BytesIO(real[:length]), 10_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_pack_or_damage(data: bytes):
    for start in (b"", b"PACK\0\0\0\2\0\0\0\2"):
        try:
            check_sizes(io.BytesIO(start + data), 1000)
        except UnprocessableError:
            continue


def test_the_limit_itself_passes():
    check_sizes(pack(item(BLOB, 1000, bytes(1000))), 1000)
    with pytest.raises(UnprocessableError, match="a file in it has 1001 bytes, over 1000"):
        check_sizes(pack(item(BLOB, 1001, bytes(1001))), 1000)


def test_a_size_that_is_not_the_objects_is_damage():
    for said in (999, 1001, 0):
        with pytest.raises(UnprocessableError, match="damaged"):
            check_sizes(pack(item(BLOB, said, bytes(1000))), 2000)


@pytest.mark.parametrize(("kind", "base"), [(OFS_DELTA, b"\x81\x01"), (REF_DELTA, bytes(20))])
def test_what_a_delta_makes_counts(kind: int, base: bytes):
    delta = number(10) + number(10**12) + b"\x90\x0a"
    with pytest.raises(UnprocessableError, match="1000000000000 bytes"):
        check_sizes(pack(item(kind, len(delta), delta, base)), 1000)
    small = number(10) + number(10) + b"\x90\x0a"
    check_sizes(pack(item(kind, len(small), small, base)), 1000)


def test_a_bomb_is_refused_in_flat_memory():
    whole = 300_000_000
    stream = zlib.compressobj(9)
    bomb = b"".join(stream.compress(bytes(1_000_000)) for _ in range(whole // 1_000_000)) + stream.flush()
    lying = item(BLOB, 500, b"")[: -len(zlib.compress(b""))] + bomb
    tracemalloc.start()
    try:
        with pytest.raises(UnprocessableError, match="damaged"):
            check_sizes(pack(lying), 1000)
        check_sizes(pack(item(BLOB, whole, b"")[: -len(zlib.compress(b""))] + bomb), whole)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_push_of_a_large_file_names_git_lfs_and_leaves_nothing(
    api: HfApi, server: Server, run, repo: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(server.hub.limits, "git_object", 1_000_000)
    run("git", "clone", "-q", f"{server.endpoint.replace('://', f'://me:{server.token}@')}/{repo}", "work")
    (tmp_path / "work" / "large.txt").write_bytes(bytes(2_000_000))
    run("git", "add", ".", cwd=tmp_path / "work")
    run("git", "commit", "-q", "-m", "large", cwd=tmp_path / "work")
    git = server.root / "repos" / repo / "git"
    before = objects(git)
    said = run("git", "push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work", ok=False).stderr
    assert "a file in it has 2000000 bytes, over 1000000: use git-lfs" in said
    assert objects(git) == before
    assert left_unfinished(server.root) == []
    assert api.list_repo_files(repo) == [".gitattributes"]
