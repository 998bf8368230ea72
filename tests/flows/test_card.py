"""The card, as a reviewer reads it: golden files are real Markdown (`scripts/golden` renews them)."""

import json
import re
import shutil

import pytest
import yaml
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from metta_hub import errors
from metta_hub.api.card import card
from support import DATA


class Markdown(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "md"


@pytest.fixture
def golden(snapshot):
    return snapshot.use_extension(Markdown)


HOSTILE = "{{ 7 * 7 }} {% raw %} <script>alert(1)</script> | `x` [a](javascript:b) **b** \n# H\n---\nlicense: x\n<!-- "


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def hostile_pair(folder):
    """A pair whose every string is Markdown, YAML, HTML and Jinja."""
    values = json.loads((DATA / "run" / "model_000140.json").read_text())
    values |= {"run_name": HOSTILE, "action_names": [HOSTILE, "ok"], "evals": {HOSTILE: 1.0, "nested": {HOSTILE: 2.0}}}
    values["model_info"]["type"] = HOSTILE
    values[HOSTILE] = HOSTILE
    shutil.copy(DATA / "run" / "model_000140.pt", folder / "evil_0001.pt")
    (folder / "evil_0001.json").write_text(json.dumps(values))
    return folder / "evil_0001.pt"


def test_a_full_pair(golden):
    assert card(DATA / "run" / "model_000140.pt", license="mit") == golden


def test_a_pair_of_a_metta_agent(golden):
    assert card(DATA / "pairs" / "fast_small" / "model_0003.pt") == golden


def test_a_bare_state_dict(golden, tmp_path):
    shutil.copy(DATA / "pairs" / "tiny_small" / "model_0012.pt", tmp_path / "bare.pt")
    assert card(tmp_path / "bare.pt") == golden


def test_hostile_metadata_are_shown_as_text(golden, tmp_path):
    text = card(hostile_pair(tmp_path))
    assert text == golden
    body = text.split("---\n", 2)[2]
    assert "49" not in re.findall(r"\d+", body.split("## Get it")[0])
    assert "<script" not in body
    assert "<!--" not in body
    assert "\n# H" not in body
    assert front_matter(text)["library_name"] == "metta-hub"
    assert "license" not in front_matter(text)


def test_every_table_row_has_the_columns_of_its_head(tmp_path):
    text = card(hostile_pair(tmp_path))
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(rows)) == 1, table


def test_the_same_checkpoint_gives_the_same_card():
    assert card(DATA / "run" / "model_000140.pt") == card(DATA / "run" / "model_000140.pt")


def test_a_template_of_ones_own_gets_the_same_facts(tmp_path):
    template = tmp_path / "mine.md"
    template.write_text("{{ front_matter }}\n# {{ title }}: {{ parameters }}\n")
    text = card(DATA / "run" / "model_000140.pt", template=str(template))
    assert text.endswith("# hearts.lstm: 167,942\n")


@pytest.mark.parametrize("text", ["{{ nothing }}", "{% for %}", "{{ title.upper( }}"])
def test_a_template_that_cannot_be_filled_in_says_why(tmp_path, text):
    template = tmp_path / "mine.md"
    template.write_text(text)
    with pytest.raises(errors.FileError, match="cannot be filled in"):
        card(DATA / "run" / "model_000140.pt", template=str(template))


def test_an_unknown_template_lists_the_known_ones():
    with pytest.raises(errors.NotFoundError, match="known: default"):
        card(DATA / "run" / "model_000140.pt", template="fancy")


def test_the_command_prints_or_writes_it(cli, tmp_path):
    source = DATA / "run" / "model_000140.pt"
    text = cli("card", source).stdout
    assert text == card(source)
    assert cli("card", source, "--output", tmp_path / "README.md").stdout == ""
    assert (tmp_path / "README.md").read_text() == text
