"""The command line as an interface: what it prints where, and how it exits."""

import json
import os
import re

import pytest

from support import DATA

PT = DATA / "run" / "model_000140.pt"


def test_push_says_what_it_does_and_what_to_type_next(cli, repo_id, hub):
    done = cli("push", PT, repo_id)
    commit = re.search(r"commit: ([0-9a-f]{7})", done.stdout).group(1)
    assert done.stdout == (
        f"✓ Published model_000140 to {repo_id} (new repo, public)\n"
        f"  url: {hub.endpoint}/{repo_id}  commit: {commit}  root: model_000140 (just pushed)\n"
        f"  get: metta-hub pull {repo_id}@{commit}\n"
    )
    said = done.stderr.splitlines()
    assert said[:3] == [
        "  read    pair, 12 tensors, 167,942 parameters, epoch 140",
        "  clean   /uri: file:///home/…/model_000140.pt → file://model_000140.pt",
        "  prove   mirror equals the .pt in 12 of 12 tensors",
    ]
    assert re.fullmatch(r"  send    1\.\d MB", said[3])
    assert said[4:] == ["Warning: no licence, so nobody may reuse it.   Hint: --license mit, or METTA_HUB_LICENSE"]
    again = cli("push", PT, repo_id).stdout
    assert again == f"✓ Unchanged: {repo_id} already holds model_000140 ({commit}); nothing sent.\n"


def test_json_is_one_value_on_stdout(cli, repo_id, tmp_path):
    pushed = json.loads(cli("push", PT, repo_id, "--json", "--license", "mit").stdout)
    assert {
        "repo_id",
        "url",
        "commit",
        "changed",
        "checkpoint",
        "root",
        "replaced",
        "files",
        "redactions",
        "warnings",
    } <= set(pushed)
    assert pushed["redactions"] == [{"pointer": "/uri", "kind": "local path"}]
    assert set(pushed["files"][0]) == {"path", "size", "sha256"}
    pulled = json.loads(cli("pull", repo_id, tmp_path / "out", "--json").stdout)
    assert set(pulled) == {"checkpoint", "pt", "json", "commit", "sha256", "identical"}
    assert set(pulled["sha256"]) == {"pt", "json"}
    inspected = json.loads(cli("inspect", repo_id, "--json").stdout)
    assert {"format", "container", "parameters", "bytes", "tensors", "metadata", "pickle"} <= set(inspected)
    assert inspected["tensors"][0] == {"name": "_action_head.bias", "dtype": "F32", "shape": [5], "bytes": 20}
    verified = json.loads(cli("verify", repo_id, "--json").stdout)
    assert set(verified) == {"ok", "checks", "tied"}
    listed = json.loads(cli("list", repo_id, "--json").stdout)
    assert set(listed[0]) == {"checkpoint", "epoch", "agent_step", "avg_reward", "evals", "bytes", "root"}


def test_quiet_prints_one_value(cli, repo_id, tmp_path):
    pushed = cli("push", PT, repo_id, "-q")
    assert re.fullmatch(r"[0-9a-f]{40}\n", pushed.stdout)
    assert cli("pull", repo_id, tmp_path / "out", "-q").stdout == f"{tmp_path}/out/model_000140.pt\n"
    assert cli("list", repo_id, "-q").stdout == "model_000140\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said", "hint"),
    [
        (
            ["push", "run/model_00014.pt", "org/nav"],
            1,
            "There is no file or folder",
            "did you mean run/model_000140.pt?",
        ),
        (
            ["push", "org/nav", "run/model_000140.pt"],
            2,
            "The path comes first, then the repo",
            "push run/model_000140.pt org/nav",
        ),
        (["push", "run/model_000140.pt", "a/b/c"], 2, "not a reference", "org/name"),
        (["push", "run/model_000140.pt", "org/nav:best"], 2, "one checkpoint of a repo", "org/nav"),
        (["push", "run", "org/nav"], 1, "not a copy of a published repo", "metta-hub list run"),
        (["push", "run/notes.txt", "org/nav"], 1, "not a checkpoint", "pairs"),
        (["pull", "org/nothing-here"], 1, "There is no repo org/nothing-here", "check the spelling"),
        (["inspect", "nothing at all"], 1, "neither a file or folder here nor a reference", ""),
        (["pull", "org/nav@main", "--revision", "v1"], 2, "names the revision 'main' already", "one of them"),
        (["inspect", "run/model_000140.pt", "--revision", "v1"], 2, "local path", "leave out"),
        (
            ["push", "hf://org/nav", "run/model_000140.pt"],
            2,
            "The path comes first",
            "push run/model_000140.pt hf://org/nav",
        ),
        (["list", "empty"], 1, "holds no checkpoint", ""),
        (["list", "run", "--sort", "luck"], 1, "No checkpoint has a number 'luck'", "avg_reward"),
        (["push"], 2, "'metta-hub push' needs PATH", "usage: metta-hub push [OPTIONS] PATH REPO"),
        (["frobnicate"], 2, "There is no command 'frobnicate'", "metta-hub --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_say_what_is_wrong_and_what_to_type(cli, run, tmp_path, arguments, code, said, hint):
    (run / "notes.txt").write_text("not a checkpoint")
    (tmp_path / "empty").mkdir()
    done = cli(*arguments, cwd=tmp_path, code=code)
    assert said in done.stderr
    assert hint in done.stderr
    assert done.stdout == ""


def test_an_error_is_a_json_value_too(cli):
    done = cli("pull", "org/nothing-here", "--json", code=1)
    assert json.loads(done.stdout)["error"]["type"] == "NotFoundError"
    assert done.stderr.startswith("Error: There is no repo org/nothing-here")


def test_an_unreachable_hub(cli, run):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = cli("push", run / "model_000140.pt", "org/nav", env=nowhere, code=1)
    assert "No answer from the Hub at http://127.0.0.1:9 (Connection refused); nothing was published." in done.stderr
    assert "run the same command again, nothing is sent twice" in done.stderr


def test_no_token(cli, tmp_path):
    done = cli("push", PT, "org/nav", env={"HF_TOKEN": "", "HF_HOME": str(tmp_path)}, code=1)
    assert "Publishing needs a token, and there is none; nothing was published." in done.stderr
    assert "hf auth login" in done.stderr


def test_a_token_that_nobody_knows(cli):
    done = cli("push", PT, "org/nav", env={"HF_TOKEN": "hf_" + "x" * 34}, code=1)
    assert "does not accept the token in HF_TOKEN" in done.stderr
    assert "x" * 34 not in done.stderr


def test_a_token_is_not_sent_over_plain_http(cli):
    done = cli("push", PT, "org/nav", env={"HF_ENDPOINT": "http://example.org"}, code=2)
    assert "plain http" in done.stderr


def test_existing_other_content_is_not_overwritten_without_force(cli, repo_id, tmp_path):
    cli("push", PT, repo_id)
    cli("pull", repo_id, tmp_path / "out")
    before = (tmp_path / "out" / "model_000140.json").stat()
    cli("pull", repo_id, tmp_path / "out")
    assert (tmp_path / "out" / "model_000140.json").stat().st_mtime_ns == before.st_mtime_ns
    (tmp_path / "out" / "model_000140.json").write_text("{}")
    done = cli("pull", repo_id, tmp_path / "out", code=1)
    assert "--force replaces them" in done.stderr
    assert (tmp_path / "out" / "model_000140.json").read_text() == "{}"
    cli("pull", repo_id, tmp_path / "out", "--force")
    assert json.loads((tmp_path / "out" / "model_000140.json").read_text())["epoch"] == 140


def test_a_folder_that_cannot_be_written_to(cli, repo_id, tmp_path):
    cli("push", PT, repo_id)
    (tmp_path / "file").write_text("")
    done = cli("pull", repo_id, tmp_path / "file", code=1)
    assert str(tmp_path / "file") in done.stderr


def test_help_fits_on_a_screen_and_shows_the_grammar(cli):
    text = cli("--help").stdout
    assert len(text.splitlines()) <= 45
    for word in ("Publish:", "Get and run:", "Look:", "metta-hub push checkpoints/model_0100.pt org/nav", "REF is"):
        assert word in text
    assert cli().stdout == text


def test_a_path_that_could_be_a_repo_is_noted(cli, run, tmp_path):
    (tmp_path / "org").mkdir()
    run.rename(tmp_path / "org" / "nav")
    done = cli("list", "org/nav", cwd=tmp_path)
    assert "for the repo of that name write hf://org/nav" in done.stderr
    assert done.stdout.splitlines()[1].startswith("model_000140")


def test_a_narrow_pipe_ends_quietly(cli):
    import subprocess
    import sys

    done = subprocess.run(
        f"{sys.executable} -m metta_hub inspect {PT} | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.stdout.startswith("model_000140: pair (torch zip), 12 tensors")
    assert done.stderr == ""


def test_serve_prints_what_to_paste_and_keeps_everything(tmp_path):
    import signal
    import subprocess
    import sys

    def start(*options):
        process = subprocess.Popen(
            [sys.executable, "-m", "metta_hub", "serve", "--root", tmp_path / "hub", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return process, process.stdout.readline()

    def stop(process):
        process.send_signal(signal.SIGTERM)
        with process:
            out, err = process.stdout.read(), process.stderr.read()
        assert process.returncode == 0, err
        return out

    process, line = start("--json")
    first = json.loads(line)
    assert set(first) == {"endpoint", "token", "user", "root"}
    assert first["token"].startswith("hf_")
    stop(process)
    process, line = start()
    text = line + stop(process)
    assert f"HF_TOKEN={first['token']} HF_HUB_DISABLE_XET=1" in text
    other = json.loads((started := start("--user", "ada", "--json"))[1])
    stop(started[0])
    assert other["user"] == "ada"
    assert other["token"] != first["token"]
    again = json.loads((started := start("--user", "ada", "--json"))[1])
    stop(started[0])
    assert again["token"] == other["token"]
