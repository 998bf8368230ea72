"""API.md names a test for each line of the specification; the names are those of tests that are there."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def names_of_tests() -> list[str]:
    text = "\n".join(path.read_text() for path in HERE.glob("test_*.py"))
    return re.findall(r"^def (test_\w+)", text, re.MULTILINE)


def test_every_test_that_the_table_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", (HERE / "API.md").read_text()))
    assert len(named) > 150
    assert named <= set(names_of_tests())


def test_no_name_of_a_test_is_used_twice():
    assert len(names_of_tests()) == len(set(names_of_tests()))
