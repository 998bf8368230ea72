"""The card templates are found from a wheel and from an editable install."""

import subprocess
import sys
import zipfile
from pathlib import Path

from metta_hub import card

PROJECT = Path(__file__).parents[2]


def found_from(folder):
    code = "from metta_hub import card; print(card.template_folder()); print(card.read_template('default')[:20])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_from_a_wheel(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "metta_hub/model_card_templates/default.md" in names
    assert not [name for name in names if name.startswith(("tests", "scripts"))]
    assert found_from(tmp_path / "site")[0] == str(tmp_path / "site" / "metta_hub" / "model_card_templates")


def test_from_an_editable_install(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from metta_hub import card; print(card.template_folder())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(PROJECT / "model_card_templates")
    assert card.template_folder() == PROJECT / "model_card_templates"
