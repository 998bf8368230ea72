"""The command line and the terminal: narrow, none at all, closed; interrupts; and what must not reach any."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import metta_hub
from metta_hub.cli import progress
from standin import StandIn, answer
from support import DATA

PT = DATA / "run" / "model_000140.pt"
METTA_HUB = [sys.executable, "-m", "metta_hub"]


def on_a_terminal(*arguments, env=None, columns=80, stdout=True, script=None):
    """Run a command whose stderr (and stdout) is a terminal; what it shows, and its exit code."""
    leader, follower = pty.openpty()
    command = script or [*METTA_HUB, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=follower if stdout else subprocess.DEVNULL,
        stderr=follower,
        env={"TERM": "xterm", **{name: value for name, value in os.environ.items() if name != "NO_COLOR"}}
        | {"COLUMNS": str(columns)}
        | (env or {}),
    )
    os.close(follower)
    shown = b""
    while True:
        ready, _, _ = select.select([leader], [], [], 60)
        try:
            chunk = os.read(leader, 65536) if ready else b""
        except OSError:  # the other side is closed
            chunk = b""
        if not chunk:
            break
        shown += chunk
    os.close(leader)
    return process.wait(), shown.decode()


# --- widths and colours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["push"], ["pull"], ["inspect"], ["verify"], ["list"], ["scan"], ["card"], ["serve"]]
)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_fits_in_the_window(cli, command, columns):
    """But for examples and grammar, which can be copied, and are never broken; a very narrow window counts as 50."""
    kept = re.compile(r"^  metta-hub |^REF is|^best=|^the repo's root")
    lines = cli(*command, "--help", env={"COLUMNS": str(columns)}).stdout.splitlines()
    assert max(len(line) for line in lines if not kept.match(line)) <= max(columns, 50)


def test_help_is_one_screen(cli):
    """Groups, three examples and the grammar of references in 80 columns and 25 lines."""
    lines = cli("--help", env={"COLUMNS": "80"}).stdout.splitlines()
    assert len(lines) <= 25
    text = "\n".join(lines)
    assert text.count("\n  metta-hub ") == 3
    for heading in ("Publish:", "Get and run:", "Look:", "Try things:"):
        assert f"\n{heading}" in text
    assert "REF is [hf://]org/name[@revision][:selector]" in text


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['metta-hub', '--help']\n"
        "from metta_hub.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'huggingface_hub', 'pydantic', 'rich', 'jinja2', 'tempfile', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_colours_are_for_terminals(tmp_path):
    good, bad = ["verify", PT], ["inspect", tmp_path / "nothing.pt"]
    assert "\033[32m✓\033[0m" in on_a_terminal(*good)[1]
    assert on_a_terminal(*bad)[1].startswith("\033[31mError:\033[0m ")
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        for command in (good, bad):
            assert "\033" not in on_a_terminal(*command, env=env)[1]


def test_no_colour_reaches_a_pipe(tmp_path):
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    for command in (["verify", PT], ["inspect", tmp_path / "nothing.pt"]):
        done = subprocess.run([*METTA_HUB, *map(str, command)], env=plain, capture_output=True, check=False)
        assert b"\033" not in done.stdout + done.stderr


def test_errors_are_whole_in_a_narrow_window(cli, tmp_path):
    """A terminal breaks lines itself; what is cut off by us is lost."""
    for columns in ("20", "200"):
        done = cli("inspect", "nothing.pt", code=1, env={"COLUMNS": columns}, cwd=tmp_path)
        assert done.stderr.splitlines()[0] == "Error: There is no file or folder nothing.pt."


# --- progress -----------------------------------------------------------------------------------------------------

SLOW = """
import sys, time
from metta_hub.cli.output import Output
done = 0
with Output(as_json={as_json}, quiet={quiet}).report.progress("convert", lambda: 700_000, 1_000_000):
    time.sleep({seconds})
"""


def slow(seconds, *, as_json=False, quiet=False):
    return [sys.executable, "-c", SLOW.format(seconds=seconds, as_json=as_json, quiet=quiet)]


def test_a_bar_for_work_over_a_second_on_a_terminal():
    _, shown = on_a_terminal(script=slow(progress.PATIENCE + 0.5), env={"HF_HUB_DISABLE_PROGRESS_BARS": ""})
    assert re.search(r"\r\033\[K  convert ━+─+ 700\.0 kB of 1\.0 MB", shown)
    assert shown.endswith("\r\033[K"), "nothing is left of it"


@pytest.mark.parametrize(
    ("script", "env"),
    [
        (slow(progress.PATIENCE / 4), {}),
        (slow(progress.PATIENCE + 0.5, as_json=True), {}),
        (slow(progress.PATIENCE + 0.5, quiet=True), {}),
        (slow(progress.PATIENCE + 0.5), {"TERM": "dumb"}),
        (slow(progress.PATIENCE + 0.5), {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
    ],
    ids=["short", "json", "quiet", "dumb", "disabled"],
)
def test_no_bar_where_nobody_wants_one(script, env):
    assert on_a_terminal(script=script, env={"HF_HUB_DISABLE_PROGRESS_BARS": "", **env})[1] == ""


def test_no_bar_in_a_pipe():
    done = subprocess.run(slow(progress.PATIENCE + 0.5), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("columns", [10, 20, 40, 80, 300])
@pytest.mark.parametrize(("done", "total"), [(0, 10**9), (5 * 10**8, 10**9), (2 * 10**9, 10**9), (5, 0)])
def test_a_bar_fits_in_the_window(columns, done, total):
    assert len(progress.line("convert", done, total, columns)) < columns


# --- closed streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "code"),
    [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("<&-", 0), (">/dev/full", 1), ("2>/dev/full", 0)],
)
def test_closed_and_full_streams(closed, code):
    done = subprocess.run(
        f"{sys.executable} -m metta_hub inspect {PT} {closed}", shell=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_push_whose_talk_nobody_hears_is_finished(repo_id, api):
    """The work goes on when stderr is gone; whether it is done is in the repo, and in the exit code."""
    command = (
        f"{sys.executable} -m metta_hub push {PT} {repo_id} --json 2>&1 >/dev/null | true; exit ${{PIPESTATUS[0]}}"
    )
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0
    assert api.repo_exists(repo_id)
    assert metta_hub.verify(repo_id).ok


# --- interrupts ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint that takes a while: 60 MB."""
    path = tmp_path_factory.mktemp("large") / "large_0001.pt"
    torch.save({f"w{number}": torch.full((1024, 1024), float(number)) for number in range(15)}, path)
    return path


DEFAULT = (
    "import os, signal, sys\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_DFL)\nos.execv(sys.argv[1], sys.argv[1:])"
)


def interrupted(number, when, *arguments, env, cwd):
    """Run a command and send it a signal as soon as `when` says so; exit code, stdout, stderr."""
    command = [sys.executable, "-c", DEFAULT, *METTA_HUB, *map(str, arguments)]
    with subprocess.Popen(
        command, env=os.environ | env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not when() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


STOPPED = "Error: Stopped by {}; run the same command again, nothing is done twice."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["converting", "sending"])
def test_a_push_that_is_stopped_leaves_nothing(number, step, large, hub, api, repo_id, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def converting():
        return any(path.stat().st_size for path in scratch.rglob("model.safetensors"))

    def sending():
        return any(request.method == "PUT" or "/lfs/" in request.path for request in hub.requests)

    when = {"converting": converting, "sending": sending}[step]
    arguments = ("push", large, repo_id)
    code, out, err = interrupted(number, when, *arguments, env={"TMPDIR": str(scratch)}, cwd=tmp_path)
    if code == 0:  # it was faster than the signal
        pytest.fail(f"not stopped while {step}: {out}{err}")
    assert code == 128 + number
    assert out == ""
    assert err.splitlines()[-1] == STOPPED.format(number.name)
    assert not [line for line in err.splitlines()[:-1] if not line.startswith("  ")]
    assert list(scratch.iterdir()) == []
    if api.repo_exists(repo_id):
        assert len(api.list_repo_commits(repo_id)) == 1  # the one that it was made with
    assert metta_hub.push(large, repo_id).changed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_pull_that_is_stopped_leaves_nothing(number, large, repo_id, tmp_path):
    metta_hub.push(large, repo_id, pt=False)
    out, home = tmp_path / "out", tmp_path / "home"
    for where in (home, out):  # while it is fetched, and while it is written
        code, _, err = interrupted(
            number,
            lambda where=where: any(path.is_file() and path.stat().st_size > 10**6 for path in where.rglob("*")),
            "pull",
            repo_id,
            out,
            env={"HF_HOME": str(home)},
            cwd=tmp_path,
        )
        assert code == 128 + number, err
        assert err.splitlines() == [STOPPED.format(number.name)]
        assert not out.exists() or list(out.iterdir()) == []
        assert not list(home.rglob("*.incomplete"))
    assert metta_hub.pull(repo_id, out).checkpoint == "large_0001"


def test_a_stop_is_json_too(large, repo_id, tmp_path, hub):
    code, out, _ = interrupted(
        signal.SIGINT, lambda: bool(hub.requests), "push", large, repo_id, "--json", env={}, cwd=tmp_path
    )
    assert code == 130
    assert json.loads(out)["error"]["type"] == "Stopped"


# --- what a terminal would act on ---------------------------------------------------------------------------------

ESCAPES = "\x1b[31mred\x1b]0;title\x07 \u202eback\x9b2J"
RAW = {"\x1b", "\x07", "\u202e", "\x9b"}


@pytest.mark.parametrize("mode", [[], ["--json"], ["-q"]])
def test_nothing_of_a_strangers_reaches_the_terminal_raw(mode, repo_id, tmp_path, upload, cli):
    torch.save({ESCAPES: torch.ones(1)}, tmp_path / "evil_0001.pt")
    metta_hub.push(tmp_path / "evil_0001.pt", repo_id, settings=[f"run_name={ESCAPES}", f"note={ESCAPES}"])
    for command in (["inspect"], ["verify"], ["list"], ["pull"]):
        done = cli(*command, repo_id, *mode)
        assert not RAW & set(done.stdout + done.stderr), command
    shown = json.loads(cli("inspect", repo_id, "--json").stdout)
    assert shown["tensors"][0]["name"] == ESCAPES, "and JSON loses nothing"


def test_a_card_of_a_strangers_is_shown_without_and_saved_with(repo_id, upload, cli, tmp_path):
    metta_hub.push(PT, repo_id)
    text = f"---\nlicense: mit\n---\n# Mine {ESCAPES}\n\tindented\n"
    upload(repo_id, "README.md", text.encode())
    code, shown = on_a_terminal("card", repo_id, env={"NO_COLOR": "1"})
    assert code == 0
    assert "# Mine" in shown
    assert not RAW & set(shown)
    assert cli("card", repo_id).stdout == text
    cli("card", repo_id, "--output", tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == text


def test_what_a_hub_says_is_shown_without(repo_id, hub, cli):
    with StandIn(hub.endpoint) as standin:
        standin.say("GET", "/api/", answer(403, json.dumps({"error": ESCAPES})))
        done = cli("push", PT, repo_id, code=1, env={"HF_ENDPOINT": standin.endpoint})
        assert "red" in done.stderr
        assert not RAW & set(done.stderr)


# --- tracebacks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_tracebacks_are_for_hf_debug(value, shown, tmp_path):
    done = subprocess.run(
        [*METTA_HUB, "inspect", "nothing.pt"],
        env=os.environ | {"HF_DEBUG": value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is shown
    assert "Error: There is no file or folder nothing.pt." in done.stderr.splitlines()


def test_usage_errors_keep_their_exit_code_with_hf_debug():
    done = subprocess.run(
        [*METTA_HUB, "frobnicate"], env=os.environ | {"HF_DEBUG": "1"}, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert Path(sys.executable).exists()
