"""Pages of errors as a user sees them: what was typed → what was printed, in one Markdown file that a reviewer reads.

Whatever differs from run to run or from machine to machine is settled in one place, `Page.settled`.
"""

import difflib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import typer
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from metta_hub.cli import app
from metta_hub.cli.help import ParserError

HUB = "https://hub.example"
WITH_JSON = {"push", "pull", "inspect", "verify", "list"}
_PROGRAMS = ("metta-hub", "hf", "pip")
_PLACEHOLDER = re.compile(r"\b(PATH|FILE|REF|DIR|USER|NAME)\b")


class Markdown(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "md"


class Page:
    """One page, made by running its commands one after the other in one folder.

    Args:
        title: its heading.
        folder: where the commands are typed.
        repo_id: what `org/nav` means: a repo that no other test uses.
        json_too: run each command once more with --json, which must say the same.
        words: what to write instead of a text that differs from run to run.
    """

    def __init__(self, title, folder, repo_id, *, json_too=False, **words):
        self.folder = folder
        self.json_too = json_too
        self.repo_id = repo_id
        self.words = {text: word for word, text in words.items()} | {str(folder): "HERE", repo_id: "org/nav"}
        self.hints = []
        self._lines = [f"# {title}"]

    def run(self, what, *arguments, code=1, env=None, hidden=None, inside=()):
        """Type a command that fails, and write down what it says.

        `hidden` is environment that nobody need see; `inside` is the beginning of a command that runs others.
        """
        whole = (hidden or {}) | (env or {})
        done = self.call(*arguments, env=whole, inside=inside)
        assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        self.write(what, arguments, done, env)
        self._check(done)
        if self.json_too and "--json" not in arguments and arguments[0] in WITH_JSON:
            self._check_json(arguments, whole, inside, done)
        return done

    def call(self, *arguments, env=None, inside=()):
        """Run the real command line in a process of its own."""
        words = (str(word).replace("org/nav", self.repo_id) for word in arguments)
        return subprocess.run(
            [*inside, sys.executable, "-m", "metta_hub", *words],
            cwd=self.folder,
            env=os.environ | {"COLUMNS": "100"} | (env or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def write(self, what, arguments, done, env=None):
        """Write down a command and what it printed."""
        shown = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in (env or {}).items())
        typed = f"$ {shown} metta-hub {shlex.join(map(str, arguments))}".replace("$  ", "$ ")
        said = [f"stdout: {line}" for line in done.stdout.splitlines()] + done.stderr.splitlines()
        block = "\n".join([typed, *said, f"[exit {done.returncode}]"])
        self._lines.append(f"\n## {what}\n\n```console\n{self.settled(block)}\n```")

    def settled(self, text):
        """A text without what differs from run to run: addresses, folders, tokens, commits, free bytes, ids."""
        for word, instead in sorted(self.words.items(), key=lambda item: -len(item[0])):
            text = text.replace(word, instead)
        text = re.sub(r"http://127\.0\.0\.1:[0-9]+", HUB, text)
        text = re.sub(r"hf_[A-Za-z0-9]{20,}", "hf_TOKEN", text)
        text = re.sub(r"@[0-9a-f]{7,40}\b", "@c0ffee1", text)
        text = re.sub(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7}(?:[0-9a-f]{33})?\b", "c0ffee1", text)
        return re.sub(r"[0-9,]+ are free", "N are free", text)

    def text(self):
        """The page."""
        text = "\n".join(self._lines) + "\n"
        assert "/tmp/" not in text
        assert "/root/" not in text
        assert not re.search(r"hf_(?!TOKEN)[A-Za-z0-9]{20,}", text)
        return text

    def _check(self, done):
        """What holds for every failure: no traceback, one sentence, at most one hint, nothing raw."""
        assert "Traceback" not in done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, done.stderr
        assert errors[0].endswith(".")
        hints = [line.removeprefix("Hint: ") for line in done.stderr.splitlines() if line.startswith("Hint: ")]
        assert len(hints) == 1, done.stderr
        self.hints += hints
        assert all(character.isprintable() for character in done.stderr.replace("\n", ""))

    def _check_json(self, arguments, env, inside, done):
        """With --json the same failure is one JSON value on stdout, and says the same."""
        again = self.call(arguments[0], "--json", *arguments[1:], env=env, inside=inside)
        assert again.returncode == done.returncode
        error = json.loads(again.stdout)["error"]
        assert set(error) == {"type", "message", "hint"}
        assert f"Error: {error['message']}" in done.stderr.splitlines()
        assert f"Hint: {error['hint']}" in done.stderr.splitlines()

    def check_hints(self):
        """Every command in a hint can be typed: its options exist, and its arguments are as many as it takes."""
        for hint in self.hints:
            for command in commands_in(hint):
                check_command(command)


def commands_in(hint):
    """The commands that a hint tells to type: in quotes, or the whole of it."""
    quoted = re.findall(r"'((?:[^' ]|\\')[^']*)'", hint)
    whole = [hint] if hint.split(" ", 1)[0] in _PROGRAMS else []
    return [text for text in (*quoted, *whole) if text.split(" ", 1)[0] in _PROGRAMS]


def check_command(command):
    """That a program takes a command as it stands; placeholders in it are as good as values."""
    program, *arguments = shlex.split(command)
    if program == "metta-hub":
        _check_own(command, arguments)
    elif program == "hf":
        words = [word for word in arguments if not word.startswith("-")]
        options = [word for word in arguments if word.startswith("--")]
        _check_hf(command, words, options)
    else:
        assert arguments[0] == "install", command


def _check_own(command, arguments):
    group = typer.main.get_command(app)
    name, *rest = arguments
    if name == "--help":
        return
    assert name in group.commands, command
    if rest == ["--help"] or not rest:  # help, or a command that is only named
        return
    try:
        group.commands[name].make_context(f"metta-hub {name}", rest)
    except ParserError as error:
        raise AssertionError(f"{command}: {error.format_message()}") from error


def _check_hf(command, words, options):
    for depth in (3, 2, 1):  # `hf auth login`, `hf download REPO`
        done = subprocess.run(
            [Path(sys.executable).parent / "hf", *words[:depth], "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        usage = done.stdout.partition("\n")[0]
        if done.returncode == 0 and "COMMAND" not in usage:
            missing = [option for option in options if option not in done.stdout]
            assert not missing, (command, difflib.get_close_matches(missing[0], done.stdout.split()))
            return
    raise AssertionError(command)
