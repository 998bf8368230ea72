"""The command line in processes that have little memory and time: what they used, what they said, how they ended.

Run as a script it is the process that the others are forked from: it imports once what every command needs, and each
command then runs in a child of its own, from `main` on as in a shell.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

#: What a command may take: bytes of memory, seconds of a processor, and of a clock, for those that only wait.
MEMORY, SECONDS, PATIENCE = 300 << 20, 5, 60
#: Bytes of address space, far beyond that: a bomb must not take the machine with it.
_ADDRESSES = 1 << 30


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code (negative: by a signal), output, most memory, processor's and clock's seconds."""

    code: int
    out: str
    err: str
    memory: int
    cpu: float
    seconds: float


class Confined:
    """Runs commands in the process of this module."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.confined"],
            # Counting the lines that run would take several times the time that is allowed.
            env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
            | {"PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._process.communicate()

    def run(self, *arguments, cwd):
        """Run a command."""
        self._process.stdin.write(json.dumps([str(cwd), *map(str, arguments)]) + "\n")
        self._process.stdin.flush()
        ready = select.select([self._process.stdout], [], [], 2 * PATIENCE)[0]
        assert ready, f"no answer from {arguments}"
        return Done(**json.loads(self._process.stdout.readline()))


# --- in the process ---


def _command(cwd, arguments, out, err):
    """The child: it never returns."""
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    from metta_hub.cli import main

    sys.argv = ["metta-hub", *arguments]
    code = 70
    try:
        code = main() or 0
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(cwd, *arguments):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.monotonic()
        child = os.fork()
        if not child:
            _command(cwd, arguments, out.fileno(), err.fileno())
        while not (ended := os.wait4(child, os.WNOHANG))[0]:
            if time.monotonic() - started > PATIENCE:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.002)
        _, status, used = ended
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "out": out.read(),
            "err": err.read(),
            "memory": used.ru_maxrss << 10,
            "cpu": used.ru_utime + used.ru_stime,
            "seconds": seconds,
        }


def _main():
    import metta_hub.api.inspect
    import metta_hub.api.migrate
    import metta_hub.api.push
    import metta_hub.cli  # noqa: F401 - what is imported here, no child needs to import

    for line in sys.stdin:
        sys.stdout.write(json.dumps(_run(*json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
