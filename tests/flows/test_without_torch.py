"""Old checkpoints are migrated, published and pulled where nothing is installed that they were made with."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from flows import opcodes
from support import DATA, SHARED

PROJECT = Path(__file__).parents[2]
#: What old checkpoints name, and what pip would install for torch.
ABSENT = ("metta", "agent", "mettagrid", "omegaconf", "gymnasium", "numpy", "torch")

REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ImportError(f"refused: {{name}}")

sys.meta_path.insert(0, Refuse())
"""

#: Everything that can be done with a file, and the hashes of every file that it leaves.
WORK = f"""
import hashlib, json, sys
from pathlib import Path
import metta_hub
from metta_hub.api.card import card

# The name of the repo stands in them, or the time, or the hash of one of the others.
NAMING_THE_REPO = ("README.md", "config.json", "checkpoints/index.json")
folder, repo, *sources = sys.argv[1:]
folder, inspected, published = Path(folder), {{}}, {{}}
for number, source in enumerate(sources):
    found = metta_hub.inspect(source)
    assert found.tensors
    assert metta_hub.verify(source).ok
    inspected[source] = [list(found.pickle.globals), [tensor.name for tensor in found.tensors], found.metadata]
    [item] = metta_hub.migrate(source, output=folder / f"{{number}}" / "migrated").migrated
    assert metta_hub.verify(item.target).ok
    target = f"{{repo}}-{{number}}"
    published[source] = {{file.path: file.sha256 for file in metta_hub.push(source, target).files}}
    assert not metta_hub.push(source, target).changed
    metta_hub.inspect(target); card(source); card(target)
    assert metta_hub.verify(target).ok
    pulled = metta_hub.pull(target, folder / f"{{number}}" / "pulled")
    assert metta_hub.verify(pulled.pt, target).ok
    assert [one.publish for one in metta_hub.scan(source)] == [True]
    assert not metta_hub.diff(source, target, weights=True).tensors.changed
    metta_hub.export(target, folder / f"{{number}}" / "run:v1", class_path="a.Policy")
    assert len(metta_hub.list_checkpoints(target)) == len(metta_hub.list_checkpoints(pulled.pt.parent)) == 1
missing = [name for name in {ABSENT!r} if sys.modules.get(name)]
assert not missing, missing
files = sorted(path for path in folder.rglob("*") if path.is_file())
print(json.dumps({{
    "inspected": inspected,
    "files": {{str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}},
    "published": {{source: {{path: sha256 for path, sha256 in found.items() if path not in NAMING_THE_REPO}}
                  for source, found in published.items()}},
}}))
"""


@pytest.fixture
def sources(tmp_path):
    """A genuine record, an agent alone, a package, a wrapped dict; and the shared eras when they are there."""
    found = [DATA / "records" / "model_0005.pt"]
    made = {
        "run__e5__s9__t7__sc1234.pt": opcodes.pt(opcodes.agent()),
        "model_0006.pt": opcodes.package(
            {
                "policy_record/data.pkl": opcodes.record(policy=opcodes.NONE),
                "policy/model.pkl": opcodes.agent({"_core_": opcodes.module(parameters={"weight": opcodes.tensor(0)})}),
            }
        ),
    }
    for name, content in made.items():
        found.append(tmp_path / name)
        found[-1].write_bytes(content)
    found.append(tmp_path / "model_0007.pt")
    torch.save({"epoch": 7, "evals": {"a": torch.ones(2)}, "model_state_dict": {"w": torch.ones(3)}}, found[-1])
    eras = (SHARED / "metta" / "eras").glob("**/model_????.pt")
    return [*found, *sorted(path for path in eras if not path.with_suffix(".json").exists())]


def work(python, code, folder, repo, sources):
    """Do it all in a process, in a folder that is empty before; what came of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    done = subprocess.run(
        [python, "-c", code, folder, repo, *sources],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder.parent,
        env={name: item for name, item in os.environ.items() if name != "PYTHONPATH"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_old_checkpoints_come_out_the_same_where_their_libraries_are_refused(sources, repo_id, tmp_path):
    """An import of any of them raises. The rest of the files takes its turn in the long version."""
    folder, sources = tmp_path / "out", sources[:8]
    usual = work(sys.executable, WORK, folder, repo_id, sources)
    without = work(sys.executable, REFUSE + WORK, folder, f"{repo_id}-without", sources)
    assert without == usual
    assert len(usual["files"]) == 6 * len(sources)  # of a pair, a pulled pair and a bundle


def requirements():
    """What the product needs but torch, with what that needs, by the versions that are here."""
    found, todo = {}, ["metta-hub"]
    while todo:
        name = todo.pop()
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            key = re.sub(r"[-_.]+", "-", needed.name).lower()
            if key in {"torch", *found} or (needed.marker and not needed.marker.evaluate({"extra": ""})):
                continue
            found[key] = importlib.metadata.version(key)
            todo.append(key)
    return [f"{name}=={version}" for name, version in found.items()]


@pytest.mark.slow
def test_old_checkpoints_come_out_the_same_in_an_environment_without_torch(sources, repo_id, tmp_path):
    """A real one: nothing of what the checkpoints name is installed."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *requirements()], check=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=PROJECT, check=True)
    [wheel] = tmp_path.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    installed = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout.lower()
    assert not [name for name in ABSENT if re.search(rf"^{name}\s", installed, re.MULTILINE)]
    folder = tmp_path / "out"
    usual = work(sys.executable, WORK, folder, repo_id, sources)
    assert work(python, WORK, folder, f"{repo_id}-without", sources) == usual
