"""The README's examples run, as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import metta_hub
from support import DATA

README = (Path(__file__).parents[2] / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path, api):
    """A folder with checkpoints/model_0100.pt, and no repo org/nav yet."""
    api.delete_repo("org/nav", missing_ok=True)
    (tmp_path / "checkpoints").mkdir()
    for suffix in (".pt", ".json"):
        (tmp_path / "checkpoints" / f"model_0100{suffix}").write_bytes(
            (DATA / f"run/model_000140{suffix}").read_bytes()
        )
    return tmp_path


def settled(text, endpoint):
    """What differs from run to run: the commit, and the Hub."""
    return re.sub(r"\b[0-9a-f]{7}\b", "4f2c9e1", text.replace(endpoint, "https://huggingface.co"))


@pytest.mark.usefixtures("hub")
def test_the_terminal(folder, hub):
    example, _ = blocks("console")
    for entry in example.split("$ ")[1:]:
        command, _, expected = entry.partition("\n")
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [BIN / program, *arguments], cwd=folder, env=os.environ, capture_output=True, text=True, check=True
        )
        assert settled(done.stdout, hub.endpoint) == expected


def test_the_old_checkpoints(tmp_path):
    """Each command does what the comment beside it says."""
    _, example = blocks("console")
    folder = tmp_path / "train_dir"
    folder.mkdir()
    (folder / "model_0005.pt").write_bytes((DATA / "records" / "model_0005.pt").read_bytes())
    seen = []
    for line in example.splitlines():
        program, *arguments = shlex.split(line.removeprefix("$ "), comments=True)
        subprocess.run([BIN / program, *arguments], cwd=tmp_path, capture_output=True, check=True)
        seen.append(sorted(path.name for path in folder.iterdir()))
    assert seen == [
        ["model_0005.pt"],
        ["model_0005.new.json", "model_0005.new.pt", "model_0005.pt"],
        ["model_0005.json", "model_0005.new.json", "model_0005.new.pt", "model_0005.pt", "model_0005.pt.old"],
    ]


def test_the_python(folder, hub, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    for example in (blocks("python")[0], blocks("python")[2]):
        exec(compile(example, "README.md", "exec"), names)


def test_the_policy(hub, api, monkeypatch, capsys):
    """A record of Metta's, published, runs as the example says."""
    api.delete_repo("org/nav", missing_ok=True)
    metta_hub.push(DATA / "records" / "model_0005.pt", "org/nav")
    _, example, _ = blocks("python")
    found = {"metta_hub": metta_hub}
    exec(compile(example, "README.md", "exec"), found)
    name, _, parameter = capsys.readouterr().out.strip().rpartition("_")
    assert name in found["policy"].action_names
    assert parameter.isdigit()
    assert found["logits"].shape == (1, 9)


def test_every_command_is_in_the_table_and_every_option_exists(cli):
    for command in ("push", "pull", "inspect", "verify", "list", "diff", "card", "export", "migrate", "scan", "serve"):
        row = next(line for line in README.splitlines() if line.startswith(f"| `metta-hub {command}"))
        options = cli(command, "--help").stdout
        for option in re.findall(r"--[a-z-]+", row):
            assert option in options, (command, option)


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[2] / target).is_file(), target
