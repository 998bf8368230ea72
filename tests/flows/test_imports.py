"""Work that needs no torch does not import it, and works where there is none."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from support import DATA

WORK = """
import json, sys
import metta_hub
assert "huggingface_hub" not in sys.modules, "import metta_hub loads huggingface_hub"
source, repo, folder = sys.argv[1:4]
metta_hub.push(source, repo)
pulled = metta_hub.pull(repo, folder)
metta_hub.inspect(source); metta_hub.inspect(repo)
assert metta_hub.verify(repo).ok and metta_hub.verify(pulled.pt).ok
metta_hub.list_checkpoints(repo); metta_hub.list_checkpoints(folder)
from metta_hub.api.card import card
card(source); card(repo)
print(json.dumps([name for name in ("torch", "numpy", "safetensors") if sys.modules.get(name)]))
"""

HIDE = "import sys\nfor name in {names!r}:\n    sys.modules[name] = None\n"


def run(code, *arguments, hidden=()):
    code = HIDE.format(names=list(hidden)) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=os.environ, check=False
    )


@pytest.mark.parametrize("hidden", [(), ("torch",), ("numpy",), ("torch", "numpy", "safetensors", "hf_xet")])
def test_no_verb_needs_torch(hidden, repo_id, tmp_path):
    done = run(WORK, DATA / "run" / "model_000140.pt", repo_id, tmp_path, hidden=hidden)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_without_torch_from_pretrained_says_what_to_install():
    done = run(
        """
        import metta_hub
        try:
            metta_hub.from_pretrained("org/nav")
        except metta_hub.MettaHubError as error:
            print(type(error).__name__, error, error.hint)
        """,
        hidden=["torch"],
    )
    said = "MissingDependencyError Running a policy needs torch, which is not installed. pip install torch"
    assert done.stdout.strip() == said


def test_looking_at_local_files_does_without_the_hubs_client():
    done = run(
        """
        import sys, metta_hub
        source = sys.argv[1]
        metta_hub.inspect(source)
        metta_hub.list_checkpoints(source)
        assert metta_hub.verify(source).ok and metta_hub.verify(source, source).ok
        print("huggingface_hub" in sys.modules)
        """,
        DATA / "run" / "model_000140.pt",
    )
    assert done.stdout == "False\n", done.stderr


def test_the_command_line_imports_nothing_heavy_before_it_must():
    done = run(
        """
        import sys
        sys.argv = ["metta-hub", "--version"]
        from metta_hub.cli import main
        try:
            main()
        except SystemExit:
            pass
        print([name for name in ("torch", "huggingface_hub", "jinja2", "starlette") if name in sys.modules])
        """
    )
    assert done.stdout.splitlines()[-1] == "[]"
