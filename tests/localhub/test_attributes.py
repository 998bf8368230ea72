"""Patterns of `.gitattributes` and `.gitignore`, as git itself reads them."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metta_hub.localhub.attributes import LargeFiles, UnwantedFiles, lfs_line
from metta_hub.localhub.globs import GitPattern


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*.pt", ["a.pt", "d/e/a.pt", ".pt"], ["a.ptx", "a.pt/b"]),
        ("/a.txt", ["a.txt"], ["d/a.txt"]),
        ("d/*.txt", ["d/a.txt"], ["d/e/a.txt", "x/d/a.txt"]),
        ("d/**", ["d/a", "d/e/f"], ["d", "x/d/a"]),
        ("**/e", ["e", "d/e", "c/d/e"], ["e/f", "xe"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/b/c", "x/a/b"]),
        ("*tfevents*", ["events.tfevents.1", "d/tfevents"], ["events"]),
        ("a?c", ["abc"], ["ac", "abbc"]),
        ("[ab].txt", ["a.txt", "b.txt"], ["c.txt"]),
        ("[!ab].txt", ["c.txt"], ["a.txt"]),
        ("[^ab].txt", ["c.txt"], ["a.txt"]),
        ("a[[:space:]]b", ["a b"], ["a.b"]),
        ("[[:digit:]]*", ["1a"], ["a1"]),
        (r"\*.pt", ["*.pt"], ["a.pt"]),
        (r"a\[1\]", ["a[1]"], ["a1"]),
        ("saved/**/*", ["saved/a", "saved/b/c"], ["a"]),
    ],
)
def test_patterns(pattern: str, fitting: list[str], others: list[str]):
    assert [path for path in fitting if not GitPattern(pattern).fits(path)] == []
    assert [path for path in others if GitPattern(pattern).fits(path)] == []


@pytest.mark.parametrize(
    "pattern", ["[", "[!", "[z-a]", "[[:foo:]]", "(?:(", "\\", "**", "/", "!", "[[:space:]", "[]", "[]]", "a" * 9999]
)
def test_malformed_patterns_fit_nothing(pattern: str):
    """As in git, where of these only `**` is a pattern that fits."""
    assert GitPattern(pattern).fits("a/b.txt") == (pattern == "**")


def test_no_pattern_takes_for_ever():
    """A regular expression made naively of one of these is not done in anybody's lifetime."""
    code = """
from metta_hub.localhub.globs import GitPattern
for pattern in ("*a" * 200 + "*b", "**/" * 150 + "b", "*a*/" * 100 + "b", "[a-z]*" * 80 + "0"):
    assert not GitPattern(pattern).fits("a" * 255)
    assert not GitPattern(pattern).fits("a/" * 500 + "a")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_line_for_one_path_fits_that_path_alone():
    for path in ("a b.txt", "d/[1] *?.txt", "a\\b", "#x", "!x", "é"):
        files = LargeFiles({".gitattributes": lfs_line(path)}.get)
        assert files.includes(path)
        assert not files.includes(f"x/{path}")


# A slash inside brackets is the one thing that we read differently: as the border of a folder.
PATTERNS = st.from_regex(r"(?!.*\[.*/)[ab*?/.\[][ab*?/.\[\]!]{0,7}", fullmatch=True)
PATHS = ["a", "b", "ab", "a/b", "a/a/b", "b/a.b", "a.b", "a/b.a/ab", "ab/ba"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(PATTERNS, min_size=1, max_size=4))
def test_gitignore_agrees_with_git(lines: list[str], tmp_path: Path):
    folder = tmp_path / "repo"
    if not folder.exists():
        subprocess.run(["git", "init", "-q", folder], check=True, capture_output=True)
    text = "\n".join(lines) + "\n"
    (folder / ".gitignore").write_text(text)
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=folder,
        input="\n".join(PATHS),
        capture_output=True,
        text=True,
        check=False,
    )
    ours = UnwantedFiles(text.encode())
    assert [path for path in PATHS if ours.includes(path)] == done.stdout.split()
