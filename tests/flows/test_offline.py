"""Without the Hub: what the cache has is used when HF_HUB_OFFLINE=1 asks for it, and what it lacks is named.

The Hub is real, and really gone: it is stopped between the commands.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from catalogue import Markdown, Page
from metta_hub.localhub import Server
from support import DATA

PT = "run/model_000140.pt"
OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The folder of a Hub with org/nav: two checkpoints, a tag and a branch."""
    root = tmp_path_factory.mktemp("store")
    with Server(root / "hub", user="tester") as server:
        env = {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": server.token, "HF_HOME": str(root / "home")}
        world = World(server, Page("", DATA, "org/nav"), env)
        world.does("push", PT, "org/nav", "--tag", "v1.0")
        world.does("push", "run/model_000202.pt", "org/nav", "--revision", "exp/a")
    return root / "hub"


@pytest.fixture
def world(store, tmp_path):
    """That Hub, running; a cache of nothing; a folder to type in."""
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(DATA / "run", here / "run")
    server = Server(shutil.copytree(store, tmp_path / "hub")).start()
    env = {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": server.token, "HF_HOME": str(tmp_path / "home")}
    yield World(server, Page("Offline", here, "org/nav", HOME=str(tmp_path / "home")), env)
    server.stop()


class World:
    def __init__(self, server, page, env):
        self.server, self.page, self.env = server, page, env

    def does(self, *arguments, offline=False, code=0):
        done = self.page.call(*arguments, env=self.env | (OFFLINE if offline else {}))
        assert done.returncode == code, done.stderr
        return done

    def fails(self, what, *arguments, offline=True):
        return self.page.run(what, *arguments, env=OFFLINE if offline else {}, hidden=self.env)


@pytest.mark.parametrize(
    "reference",
    [
        "org/nav",
        "org/nav@main",
        "org/nav@v1.0",
        "org/nav@exp/a",
        "org/nav:model_000140",
        "org/nav:best",
        "hf://org/nav",
    ],
)
def test_a_second_pull_comes_from_the_cache(world, tmp_path, reference):
    first = json.loads(world.does("pull", reference, tmp_path / "first", "--json").stdout)
    world.server.stop()
    second = json.loads(world.does("pull", reference, tmp_path / "second", "--json", offline=True).stdout)
    assert Path(second["pt"]).read_bytes() == Path(first["pt"]).read_bytes()
    assert second["commit"] == first["commit"]
    assert second["identical"]


@pytest.mark.parametrize("length", [40, 7])
def test_a_commit_names_itself_whole_or_short(world, tmp_path, length):
    commit = json.loads(world.does("pull", "org/nav", tmp_path / "first", "--json").stdout)["commit"]
    world.server.stop()
    world.does("pull", f"org/nav@{commit[:length]}", tmp_path / "second", offline=True)
    world.does("pull", "org/nav", tmp_path / "third", "--revision", commit[:length], offline=True)


def test_the_branch_is_what_it_was_when_it_was_last_seen(world, tmp_path):
    """Every command resolves a revision to one commit first; offline that is the last one known."""
    before = json.loads(world.does("pull", "org/nav", tmp_path / "first", "--json").stdout)["commit"]
    seen = json.loads(world.does("push", "run/model_000020.pt", "org/nav", "--json", "--no-promote").stdout)["commit"]
    assert seen != before
    # A push looks at the branch before it moves it, and pulls nothing of what it published.
    offline = json.loads(world.does("pull", "org/nav", tmp_path / "second", "--json", offline=True).stdout)
    assert offline["commit"] == before
    online = json.loads(world.does("pull", "org/nav", tmp_path / "second", "--json").stdout)
    assert online["commit"] == seen


def test_looking_works_as_far_as_the_cache_goes(world, tmp_path):
    world.does("pull", "org/nav", tmp_path / "pulled")
    listed, inspected = (world.does(verb, "org/nav", "--json").stdout for verb in ("list", "inspect"))
    world.server.stop()
    assert world.does("list", "org/nav", "--json", offline=True).stdout == listed
    offline = json.loads(world.does("inspect", "org/nav", "--json", offline=True).stdout)
    assert offline["tensors"]
    assert sorted(t["name"] for t in offline["tensors"]) == sorted(t["name"] for t in json.loads(inspected)["tensors"])
    assert offline["metadata"] == json.loads(inspected)["metadata"]
    assert json.loads(
        world.does("verify", tmp_path / "pulled" / "model_000140.pt", "org/nav", "--json", offline=True).stdout
    )["ok"]


def test_a_card_that_was_seen_is_seen_again(world, tmp_path):
    world.does("pull", "org/nav", tmp_path / "pulled")
    card = world.does("card", "org/nav").stdout
    world.server.stop()
    assert world.does("card", "org/nav", offline=True).stdout == card


def test_a_cache_that_cannot_be_written_to_will_do(world, tmp_path):
    """As on a node that mounts somebody's cache read-only: nothing is written there, with or without a Hub."""
    world.does("pull", "org/nav", tmp_path / "first")
    before = sorted(Path(world.env["HF_HOME"]).rglob("*"))
    world.does("pull", "org/nav", tmp_path / "second", offline=True)
    assert sorted(Path(world.env["HF_HOME"]).rglob("*")) == before


def test_what_is_not_cached_is_named(world, snapshot, tmp_path):
    world.fails("A first pull", "pull", "org/nav")
    world.does("pull", "org/nav", tmp_path / "pulled")
    requests = len(world.server.requests)
    world.fails("Publishing", "push", PT, "org/nav")
    world.fails("A rehearsal", "push", PT, "org/nav", "--dry-run")
    world.fails("Another repo", "pull", "org/other")
    world.fails("Another revision", "pull", "org/nav@v1.0")
    world.fails("Another checkpoint of a list that is cached", "pull", "org/nav:model_000141")
    world.fails("A card that was never seen", "card", "org/nav")
    world.fails("Verifying believes no cache", "verify", "org/nav")
    world.fails("Comparing with what is not cached", "verify", PT, "org/nav@v1.0")
    assert len(world.server.requests) == requests
    world.server.stop()
    world.fails("The Hub is gone, and nobody said so", "pull", "org/nav", offline=False)
    world.fails("The Hub is gone, and the cache lacks it", "pull", "org/other", offline=False)
    world.page.check_hints()
    assert world.page.text() == snapshot.use_extension(Markdown)


def test_publishing_offline_is_refused_before_anything_is_read(world):
    done = world.does("push", PT, "org/nav", offline=True, code=1)
    assert "read" not in done.stderr
    assert "nothing was published" in done.stderr


def test_either_variable_is_named(world):
    done = world.page.call("pull", "org/nav", env=world.env | {"TRANSFORMERS_OFFLINE": "1"})
    assert "unset TRANSFORMERS_OFFLINE and run the same command again" in done.stderr
    assert "HF_HUB_OFFLINE" not in os.environ
