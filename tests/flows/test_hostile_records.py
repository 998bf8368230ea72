"""Records, bare modules, packages and wrapped dicts made to deceive: nothing runs, and the answer comes.

Each file goes through `inspect`, a rehearsed `push` and `migrate`, as the command line, in a process with little
memory and time (`confined`). What a file tries stands in `attacks`.
"""

import json
import os
import struct
from pathlib import Path

import pytest
import torch

import metta_hub
from containers.builders import Entry, central_part, local_part
from flows import attacks
from flows.confined import MEMORY, Confined
from metta_hub.checkpoint import FileState


@pytest.fixture(scope="session")
def confined(tmp_path_factory):
    with Confined() as commands:
        yield commands


@pytest.fixture
def attack(confined, tmp_path, request):
    """Put a file through every command, and look at what is left; the JSON that `inspect` and `migrate` gave."""
    folder = tmp_path / "victim"
    folder.mkdir()

    def run(content, names=()):
        path = folder / "model_0001.pt"
        with path.open("wb") as file:
            for at, piece in [(0, content)] if isinstance(content, bytes) else content:
                file.seek(at)
                file.write(piece)
        before = FileState.of(path)
        inspected = _answer(confined.run("inspect", path, "--json", cwd=folder))
        _answer(confined.run("push", path, "org/hostile", "--dry-run", "--json", cwd=folder))
        assert [item.name for item in folder.iterdir()] == ["model_0001.pt"]
        migrated = _answer(confined.run("migrate", folder, "--json", cwd=folder))
        assert FileState.of(path) == before
        _assert_whole(folder, migrated)
        if names:
            assert set(names) <= set(inspected["pickle"]["globals"])
        return inspected, migrated

    return run


def _answer(done):
    """What a command gave: within its limits, in words, without a trace of what is inside."""
    assert done.code in {0, 1}, f"exit {done.code} after {done.cpu:.1f} s\n{done.err[-2000:]}"
    assert done.memory < MEMORY, f"{done.memory >> 20} MiB"
    for stream in (done.out, done.err):
        assert "Traceback" not in stream
        assert "Unexpected" not in stream
        assert all(character.isprintable() or character == "\n" for character in stream)
    if trace := os.environ.get("HOSTILE_FIGURES"):
        with Path(trace).open("a") as file:
            figures = done.memory >> 20, f"{done.cpu:.2f}", f"{done.seconds:.2f}"
            print(os.environ["PYTEST_CURRENT_TEST"], *figures, sep="\t", file=file)
    return json.loads(done.out)


def _assert_whole(folder, migrated):
    """Beside the old file stands a pair of nothing but tensors and strict JSON, or nothing at all."""
    there = {item.name for item in folder.iterdir()}
    if not migrated["migrated"]:
        assert there == {"model_0001.pt"}
        return
    assert there == {"model_0001.pt", "model_0001.new.pt", "model_0001.new.json"}
    torch.load(folder / "model_0001.new.pt", weights_only=True)
    assert metta_hub.inspect(folder / "model_0001.new.pt").pickle.plain
    json.loads((folder / "model_0001.new.json").read_text(), parse_constant=pytest.fail)


#: Each call at three of the places, so that each place has four of them or more.
SOME = [
    (name, place)
    for number, name in enumerate(attacks.CALLS)
    for step, place in enumerate(attacks.PLACES)
    if step % 5 == number % 5
]


@pytest.mark.parametrize(("name", "place"), SOME)
def test_what_a_pickle_would_call_is_named_and_not_called(attack, name, place):
    make, names = attacks.CALLS[name]
    attack(attacks.PLACES[place](make()), names)


@pytest.mark.slow
@pytest.mark.parametrize("place", attacks.PLACES)
@pytest.mark.parametrize("name", attacks.CALLS)
def test_each_call_at_each_place_is_named_and_not_called(attack, name, place):
    make, names = attacks.CALLS[name]
    attack(attacks.PLACES[place](make()), names)


def test_a_survey_of_them_all_is_answered(confined, tmp_path):
    """Each file is there, whatever is said of it."""
    made = {f"{name}-{place}": attacks.PLACES[place](attacks.CALLS[name][0]()) for name, place in SOME}
    made |= {name: make() for name, (make, _) in attacks.BOMBS.items()}
    for name, content in made.items():
        (tmp_path / f"{name.replace(' ', '_')}.pt").write_bytes(content)
    found = _answer(confined.run("scan", tmp_path, "--json", cwd=tmp_path))
    assert found["totals"]["complete"]
    assert len(found["files"]) == len(made)


@pytest.mark.parametrize("name", attacks.BOMBS)
def test_what_is_made_to_be_too_much_is_answered_all_the_same(attack, name):
    make, names = attacks.BOMBS[name]
    attack(make(), names)


def test_a_pickle_of_gigabytes_is_not_taken_into_memory(attack, tmp_path):
    """A file with a hole in it, whose data.pkl has 3 GiB that take no room on the disk."""
    size = 3 << 30
    entry, version = Entry("archive/data.pkl", size=size), Entry("archive/version", b"3\n")
    head = local_part(entry, 0)
    version.written = len(head) + size
    tail = local_part(version, version.written)
    central = central_part(entry) + central_part(version)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(central), version.written + len(tail), 0)
    attack([(0, head), (version.written, tail + central + end)])


@pytest.mark.parametrize(
    "nest",
    [
        pytest.param(nest, marks=() if number % 3 == 0 else pytest.mark.slow)
        for number, nest in enumerate(attacks.NESTS)
    ],
)
def test_a_nest_of_many_levels_is_answered(attack, nest):
    """Up to 200,000 levels of everything that can hold something; at every place, in the long run."""
    make, inside, names = attacks.NESTS[nest]
    attack(make(inside), names)


def test_metadata_are_not_taken_from_a_damaged_storage(attack):
    """Where migrating is refused, although the damage lies beside what the metadata want."""
    _, migrated = attack(attacks.damaged_storage_of_a_view())
    assert "checksum" in migrated["failed"][0]["error"]


def test_as_typed_in_a_shell(tmp_path, cli):
    """The same in processes that begin with the interpreter."""
    path = tmp_path / "model_0001.pt"
    path.write_bytes(attacks.PLACES["metadata value"](attacks.getattr_chain()))
    inspected = json.loads(cli("inspect", path, "--json").stdout)
    assert {"builtins.getattr", "builtins.__import__"} <= set(inspected["pickle"]["globals"])
    cli("push", path, "org/hostile", "--dry-run")
    path.write_bytes(attacks.shared_children_without_tensors())
    assert "modules and tensors" in cli("migrate", path, code=1).stdout
    assert list(tmp_path.glob("*.pt")) == [path]
