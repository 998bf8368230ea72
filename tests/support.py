"""Where the real checkpoints are, and what tests ask of them."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

DATA = Path(__file__).parent / "data"
#: The folder that CI and developers have beside the project; users don't.
SHARED = Path(__file__).parents[2] / "shared" / "fixtures"

#: Since 2.2 ModelCard.validate, and so push_to_hub, asks the Hub that HF_ENDPOINT names; earlier ones ask the real one.
CARDS_ARE_VALIDATED_HERE = Version(version("huggingface_hub")) >= Version("2.2")


def pairs():
    """Every pair at hand, as (id, path of the .pt): those of tests/data, and those of the shared folder."""
    found = sorted(DATA.rglob("*.pt"))
    if SHARED.is_dir():
        found += sorted(SHARED.rglob("*.pt"))
    return [path for path in found if path.with_suffix(".json").is_file()]


def values_of(path):
    """A pair's JSON as values; bare NaN, which Metta writes, is None."""
    return json.loads(Path(path).read_text(), parse_constant=lambda _: None)


def killed_at_change(prefix, number, *command):
    """Run Python in a process that is killed before its n-th change of paths with a prefix; whether it came to that."""
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(tests / "dying.py"), str(prefix), str(number), *map(str, command)],
        cwd=tests.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.returncode != 0


def _in_the_foreground():
    """Whoever runs the tests in the background has Ctrl-C ignored, and all that is started from there."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def start(*arguments, env=None):
    """Run the command line in a process that is not waited for, as from a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "metta_hub", *map(str, arguments)],
        preexec_fn=_in_the_foreground,  # noqa: PLW1509 - nothing here has threads that hold locks
        env=os.environ | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for a process: its exit code, and what it wrote."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, out, err


@contextmanager
def endpoint_at(endpoint):
    """Have the official client in this process talk to another address: it has built its own from HF_ENDPOINT."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", endpoint)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        yield


def as_anybody(*arguments):
    """The command line of somebody whom permissions hold back; root they do not."""
    drop = "-dac_override,-dac_read_search"
    inside = ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"] if os.geteuid() == 0 else []
    command = [*inside, sys.executable, "-m", "metta_hub", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
