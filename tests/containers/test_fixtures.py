"""Every file beside the project: read as torch and safetensors read it, or refused with the sentence for its kind."""

import pytest

from containers import fixtures
from containers.fixtures import FILES, ROWS, SHARED, outcome, row_of

pytestmark = pytest.mark.skipif(not FILES, reason="the shared folder is not beside the project")


def test_every_file_has_a_row_and_every_row_a_file():
    rows = {path: row_of(path) for path in FILES}
    assert [str(path) for path, row in rows.items() if row is None] == []
    assert [row.pattern for row in ROWS if row not in rows.values()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SHARED)))
def test_every_file_is_read_right_or_refused(path):
    expected, happened = row_of(path), outcome(path)
    assert happened.wrong == ()
    if expected.says is None:
        assert happened.sentence == ""
        assert happened.tensors
    else:
        assert expected.says in happened.sentence


@pytest.mark.parametrize(
    "path",
    {row_of(path).says: path for path in FILES if row_of(path) and row_of(path).says}.values(),
    ids=lambda path: str(path.relative_to(SHARED)),
)
def test_the_sentence_is_what_a_user_sees(path, cli):
    assert outcome(path).sentence in cli("push", path, "org/refused", code=1).stderr


def test_the_table_names_every_file():
    table = fixtures.table()
    assert "?" not in table
    assert "differ" not in table
    assert all(path.name in table for path in FILES)
    assert len(table.encode()) < 25_000
