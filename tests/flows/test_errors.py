"""Errors as the interface, one page a subject: the command typed, and what it says. The pages are golden files."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download

import metta_hub
from catalogue import Markdown, Page
from containers.builders import Entry, build_zip
from metta_hub.errors import UnknownArchitectureError
from standin import StandIn, answer, babble, hang_up, sleep
from support import DATA

PT = "run/model_000140.pt"


@pytest.fixture
def golden(snapshot):
    return snapshot.use_extension(Markdown)


@pytest.fixture
def folder(tmp_path):
    """A folder as an author has it: a run beside a few other files."""
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(DATA / "run", here / "run")
    return here


@pytest.fixture
def page(folder, hub, repo_id, golden):
    """Makes a page; whoever reads it sees `org/nav`."""
    made = []

    def make(title, **options):
        made.append(Page(title, folder, repo_id, **options))
        return made[-1]

    yield make
    for one in made:
        one.check_hints()
        assert one.text() == golden


def env_of(token=None, home=None, **more):
    """Variables for a user with another token: in HF_TOKEN, or stored by `hf auth login` under `home`."""
    return {"HF_TOKEN": token or "", **({"HF_HOME": str(home)} if home else {}), **more}


def stored_login(home, token):
    """What `hf auth login` leaves."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "token").write_text(token)
    return env_of(home=home)


# --- what was typed -------------------------------------------------------------------------------------------------


def test_wrong_usage(page, api, repo_id):
    """Whatever makes no sense is refused before anything is read or asked, with exit code 2."""
    here = page("Wrong usage", json_too=True)
    here.run("A command that is nearly one", "psuh", PT, "org/nav", code=2)
    here.run("A command that is none", "frobnicate", code=2)
    here.run("An argument is missing", "push", code=2)
    here.run("The second argument is missing", "push", PT, code=2)
    here.run("An argument too many", "pull", "org/nav", "checkpoints", "more", code=2)
    here.run("An option that is nearly one", "push", PT, "org/nav", "--privat", code=2)
    here.run("An option of another command", "pull", "org/nav", "--tag", "v1", code=2)
    here.run("An option without its value", "push", PT, "org/nav", "--tag", code=2)
    here.run("Usage errors are JSON, too", "push", PT, "--json", code=2)
    here.run("Swapped arguments of push", "push", "org/nav", PT, code=2)
    here.run("Swapped, with the scheme", "push", "hf://org/nav", PT, code=2)
    here.run("Swapped arguments of pull", "pull", "run", "org/nav", code=2)
    here.run("Two paths", "push", PT, "run/model_000202.pt", code=2)
    here.run("A path where a reference is meant", "pull", PT, code=2)
    here.run("Nothing where a path is meant", "inspect", "", code=2)
    here.run("Nothing where a repo is meant", "push", PT, "", code=2)
    here.run("A selector where a repo is meant", "push", PT, "org/nav:best", code=2)
    here.run("A selector where all are meant", "list", "org/nav:best", code=2)
    here.run("A setting that sets nothing", "push", PT, "org/nav", "--set", "epoch", code=2)
    assert not api.repo_exists(repo_id)


def test_bad_references(page, api, repo_id):
    here = page("References that are none")
    here.run("Two revisions", "pull", "org/nav@main", "--revision", "v1.0", code=2)
    here.run("A revision of a local file", "inspect", PT, "--revision", "v1.0", code=2)
    here.run("A revision that cannot be one", "pull", "org/nav", "--revision", "a b", code=2)
    here.run("Nothing after the @", "pull", "org/nav@", code=2)
    here.run("Nothing after the colon", "pull", "org/nav:", code=2)
    here.run("Too many slashes", "pull", "org/nav/more", code=2)
    here.run("A letter that no repo has", "pull", "org/näv", code=2)
    here.run("A name that no checkpoint has", "pull", "org/nav:a b", code=2)
    here.run("A selector that is none", "pull", "org/nav:worst=reward", code=2)
    here.run("An epoch that is no number", "pull", "org/nav:epoch=last", code=2)
    here.run("Neither a path nor a reference", "inspect", "nothing at all")
    here.run("A tag that git does not take", "push", PT, "org/nav", "--tag", "my tag", code=2)
    here.run("A branch that git does not take", "push", PT, "org/nav", "--revision", "exp..1", code=2)
    here.run("A commit where a branch is meant", "push", PT, "org/nav", "--revision", "0123456789" * 4, code=2)
    assert not api.repo_exists(repo_id)


# --- files ----------------------------------------------------------------------------------------------------------


def flipped(source, target, place):
    """A copy with one changed byte."""
    content = bytearray(source.read_bytes())
    content[place] ^= 0xFF
    target.write_bytes(content)


class Evil:
    def __reduce__(self):
        return (print, ("it ran",))


def spoiled(folder):
    """Files as they come: broken, cut short, hostile, of another kind."""
    pt = folder / PT
    (folder / "empty").mkdir()
    (folder / "nothing.pt").write_bytes(b"")
    (folder / "notes.pt").write_text("not a checkpoint")
    (folder / "half.pt").write_bytes(pt.read_bytes()[:300_000])
    content = b"x" * 4096
    header = json.dumps({"w": {"dtype": "F32", "shape": [1024], "data_offsets": [0, 4096]}}).encode()
    (folder / "half.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content[:1000])
    flipped(pt, folder / "flipped.pt", 300_000)
    record = b"\x80\x02cmetta.agent.policy_record\nPolicyRecord\n)\x81}X\x08\0\0\0run_nameX\x08\0\0\0model_01sb."
    (folder / "record.pt").write_bytes(build_zip([Entry("record/data.pkl", record)]))
    torch.save({"optimizer_state_dict": {"state": {}}, "epoch": 7}, folder / "trainer.pt")
    torch.save({"weight": Evil()}, folder / "evil.pt")
    torch.save({"weight": torch.ones(2), "optimizer": {"lr": 0.1}}, folder / "nested.pt")
    shutil.copy(pt, folder / "latest.pt")
    shutil.copy(pt, folder / "broken.pt")
    (folder / "broken.json").write_text('{"epoch": 140, ')
    shutil.copy(pt, folder / "other.pt")
    weights = {"file": "other.pt", "size": 5, "sha256": "0" * 64}
    (folder / "other.json").write_text(json.dumps({"epoch": 1, "metta_hub": {"format_version": 1, "weights": weights}}))


def test_files(page, folder, api, repo_id):
    """What is not there, or is not what it should be."""
    spoiled(folder)
    here = page("Files", json_too=True)
    here.run("A missing file, with the nearest name", "push", "run/model_00140.pt", "org/nav")
    here.run("A missing file, and nothing like it", "push", "run/weights.bin", "org/nav")
    here.run("A missing folder", "inspect", "runs/model_000140.pt")
    here.run("An empty folder", "list", "empty")
    here.run("A folder of checkpoints", "push", "run", "org/nav")
    here.run("A folder of checkpoints, to verify", "verify", "run")
    here.run("An empty file", "push", "nothing.pt", "org/nav")
    here.run("Not a checkpoint", "push", "notes.pt", "org/nav")
    here.run("Cut short", "push", "half.pt", "org/nav")
    here.run("Cut short, safetensors", "push", "half.safetensors", "org/nav")
    here.run("Cut short, to look at", "inspect", "half.safetensors")
    here.run("One changed byte", "push", "flipped.pt", "org/nav")
    here.run("A record without its policy", "push", "record.pt", "org/nav")
    here.run("A trainer's state", "push", "trainer.pt", "org/nav")
    here.run("A pickle that would run something", "push", "evil.pt", "org/nav")
    here.run("A training state, not a plain state dict", "push", "nested.pt", "org/nav")
    here.run("Metadata that are not JSON", "push", "broken.pt", "org/nav")
    here.run("Metadata of another file", "push", "other.pt", "org/nav")
    assert not api.repo_exists(repo_id)


def test_options_that_name_files(page, folder, api, repo_id):
    (folder / "card.md").write_text("{{ nothing.of.this.name }}")
    (folder / "secrets.json").write_text(json.dumps({"wandb": "hf_" + "A1b2" * 9}))
    (folder / "wrong.json").write_text("[1, 2]")
    here = page("Options that name files, and what must not be published")
    here.run("A missing metadata file", "push", PT, "org/nav", "--metadata", "run/model_000141.json")
    here.run("Metadata that are no object", "push", PT, "org/nav", "--metadata", "wrong.json")
    here.run("A setting of the wrong type", "push", PT, "org/nav", "--set", "epoch=soon")
    here.run("A secret in the metadata", "push", PT, "org/nav", "--metadata", "secrets.json")
    here.run("A secret in the commit message", "push", PT, "org/nav", "--commit-message", "hf_" + "A1b2" * 9)
    here.run("A missing template", "card", PT, "--template", "fancy")
    here.run("A template that cannot be filled in", "push", PT, "org/nav", "--template", "card.md")
    here.run("A card that cannot be written", "card", PT, "--output", "nowhere/README.md")
    assert not api.repo_exists(repo_id)


# --- who may do what ------------------------------------------------------------------------------------------------


def test_tokens(page, hub, api, repo_id, tmp_path):
    """Whose token it is, where it came from, and how to use another."""
    metta_hub.push(DATA / PT, repo_id)
    read, unknown = hub.hub.add_token(hub.user, role="read"), "hf_" + "x" * 34
    elsewhere = tmp_path / "home"
    here = page("Tokens", HOME=str(elsewhere))
    here.run("No token at all", "push", PT, "org/nav", env=env_of(home=elsewhere))
    for what, token in (("A token that may only read", read), ("A token that nobody knows", unknown)):
        here.run(f"{what}, given with --token", "push", PT, "org/nav", "--token", token)
        here.run(f"{what}, in HF_TOKEN", "push", PT, "org/nav", env=env_of(token))
        here.run(f"{what}, stored", "push", PT, "org/nav", env=stored_login(elsewhere / what[-5:].strip(), token))
    here.run("A token that may only read, for a new repo", "push", PT, "org/nav-2", env=env_of(read))
    here.run("A token that nobody knows, to read", "list", "org/nav", env=env_of(unknown))
    here.run("A token that is none", "list", "org/nav", env=env_of("hf_ä"), code=2)
    assert not api.repo_exists(f"{repo_id}-2")


def test_whose_repo(page, hub, api, repo_id, tmp_path):
    """Repos of other people: private, gated, in their namespace."""
    ada = env_of(hub.hub.add_user("ada"))
    nobody = env_of(home=tmp_path / "home")
    metta_hub.push(DATA / PT, repo_id, private=True)
    here = page("Repos of other people", json_too=True, HOME=str(tmp_path / "home"))
    here.run("Private, and somebody else asks", "pull", "org/nav", env=ada)
    here.run("Private, and nobody in particular asks", "pull", "org/nav", env=nobody)
    here.run("Private, and could be a path", "inspect", "org/nav", env=nobody)
    here.run("Private, and somebody else publishes", "push", PT, "org/nav", env=ada)
    api.update_repo_settings(repo_id, private=False, gated="manual")
    here.run("Gated, and somebody else asks", "pull", "org/nav", env=ada)
    here.run("Gated, and nobody in particular asks", "pull", "org/nav", env=nobody)
    here.run("Public, and somebody else publishes", "push", PT, "org/nav", env=ada)
    here.run("A new repo in a namespace of somebody else", "push", PT, "org/nav-2", env=ada)
    assert not api.repo_exists(f"{repo_id}-2")


# --- what a Hub holds -----------------------------------------------------------------------------------------------


def test_what_is_not_there(page, api, upload, repo_id, run):
    api.create_repo(f"{repo_id}-raw")
    metta_hub.push(run / "model_000140.pt", repo_id)
    metta_hub.push(run / "model_000202.pt", repo_id, tag="v1.0")
    here = page("What a Hub does not have")
    here.run("No such repo", "pull", "org/nav-no")
    here.run("No such repo, and no such file", "inspect", "org/nav-no")
    here.run("No such repo, to compare with", "verify", PT, "org/nav-no")
    here.run("A bare name", "pull", "nav")
    here.run("No such revision", "pull", "org/nav@v2.0")
    here.run("No such checkpoint, with the nearest name", "pull", "org/nav:model_000141")
    here.run("No such checkpoint, and nothing like it", "pull", "org/nav:final")
    here.run("No such metric", "pull", "org/nav:best=luck")
    here.run("No such metric, to sort by", "list", "org/nav", "--sort", "luck")
    here.run("No such epoch", "pull", "org/nav:epoch=141")
    here.run("Not published with metta-hub", "pull", "org/nav-raw")
    here.run("A repo to propose to that is not there", "push", PT, "org/nav-no", "--create-pr")
    assert not api.repo_exists(f"{repo_id}-no")


def test_what_is_there_already(page, api, upload, repo_id, folder):
    metta_hub.push(folder / PT, repo_id, tag="v1.0")
    api.create_repo(f"{repo_id}-raw")
    upload(f"{repo_id}-raw", "config.json", b"{}")
    other = folder / "other"
    shutil.copytree(folder / "run", other)
    document = other / "model_000140.json"
    document.write_text(document.read_text().replace('"hearts.lstm"', '"another"'))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "model_000140.pt").write_text("something else")
    (folder / "file").write_text("")
    here = page("What is there already", json_too=True)
    here.run("The other visibility", "push", PT, "org/nav", "--private")
    here.run("The tag", "push", "run/model_000202.pt", "org/nav", "--tag", "v1.0")
    here.run("A tag where a branch is meant", "push", PT, "org/nav", "--revision", "v1.0")
    here.run("A checkpoint of that name, of another run", "push", "other/model_000140.pt", "org/nav")
    here.run("Files of another tool", "push", PT, "org/nav-raw")
    here.run("Other files, where the pair should go", "pull", "org/nav")
    here.run("A file, where the folder should be", "pull", "org/nav", "file")
    assert (folder / "checkpoints" / "model_000140.pt").read_text() == "something else"
    assert len(api.list_repo_commits(repo_id)) == 2


def test_what_the_hub_does_not_accept(page, api, repo_id, run):
    here = page("What the Hub does not accept", json_too=True)
    here.run("A licence that is nearly one", "push", PT, "org/nav", "--license", "apache2")
    here.run("A licence that is none", "push", PT, "org/nav", "--license", "for friends only")
    assert not api.repo_exists(repo_id)
    metta_hub.push(run / "model_000140.pt", repo_id)
    here.run("The same, for a repo that is there", "push", "run/model_000202.pt", "org/nav", "--license", "MIT-ish")
    assert len(api.list_repo_commits(repo_id)) == 2


def test_what_a_stranger_published(page, repo_id, upload, tmp_path):
    """A repo is somebody's files: what does not fit its index, or asks for more than tensors, is not pulled."""
    for name in ("", "-2", "-3", "-4"):
        metta_hub.push(DATA / PT, repo_id + name)
    upload(repo_id, "model_000140.pt", b"something else")
    upload(f"{repo_id}-2", "checkpoints/index.json", b'{"format_version": 99, "checkpoints": []}')
    upload(f"{repo_id}-3", "checkpoints/index.json", b"\x1b[31mred")
    publish_evil(f"{repo_id}-4", upload, tmp_path)
    here = page("What a stranger published", json_too=True)
    here.run("A file that is not what the index says", "pull", "org/nav")
    here.run("An index of a later version", "pull", "org/nav-2")
    here.run("An index that is none", "list", "org/nav-3")
    here.run("A pickle that would run something", "pull", "org/nav-4")
    assert here.call("pull", "org/nav-4", "--rebuild").returncode == 0


def publish_evil(repo_id, upload, folder):
    """Replace the root's .pt by one that would run something, and have the index say so."""
    torch.save({"weight": Evil()}, folder / "evil.pt")
    content = (folder / "evil.pt").read_bytes()
    index = json.loads(Path(hf_hub_download(repo_id, "checkpoints/index.json")).read_text())
    record = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    index["checkpoints"][0]["files"]["model_000140.pt"] = record
    upload(repo_id, "model_000140.pt", content)
    upload(repo_id, "checkpoints/index.json", json.dumps(index).encode())


# --- a Hub that does not answer, or not like one --------------------------------------------------------------------


@pytest.fixture
def standin(hub):
    with StandIn(hub.endpoint) as server:
        yield server


def test_no_answer(page, repo_id, run, tmp_path):
    metta_hub.push(run / "model_000140.pt", repo_id)
    home = {"HF_HOME": str(tmp_path / "home")}
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", **home}
    here = page("A Hub that does not answer", HOME=str(tmp_path / "home"))
    here.run("Publishing", "push", PT, "org/nav", env=nowhere)
    here.run("A first pull", "pull", "org/nav", env=nowhere)
    here.run("Looking", "inspect", "org/nav", env=nowhere)
    here.run("Verifying", "verify", "org/nav", env=nowhere)
    assert here.call("pull", "org/nav", env=home).returncode == 0
    here.run("A second pull", "pull", "org/nav", env=nowhere)
    assert here.call("pull", "org/nav", env=nowhere | {"HF_HUB_OFFLINE": "1"}).returncode == 0
    for address in ("", "hub.example", "ftp://hub.example", "http://[", "http://127.0.0.1:http"):
        here.run(f"HF_ENDPOINT='{address}'", "pull", "org/nav", env={"HF_ENDPOINT": address}, code=2)
    here.run("A token, and plain http", "list", "org/nav", env={"HF_ENDPOINT": "http://hub.example"}, code=2)


ODD = {
    "It hangs up": hang_up,
    "Another protocol": babble,
    "A page for people": answer(200, "<html>Log in to the network</html>", content_type="text/html"),
    "No JSON": answer(200, '{"name": ', content_type="application/json"),
    "Other JSON": answer(200, '["name"]', content_type="application/json"),
    "An empty object": answer(200, "{}", content_type="application/json"),
    "A redirect that leads nowhere": answer(302, location="/api/whoami-v2"),
    "An error of its own": answer(500, '{"error": "Internal Error"}'),
    "A page about an error": answer(503, "<html>Service Unavailable</html>", content_type="text/html"),
    "Too many requests, with a time": answer(429, retry_after=3),
    "Too many requests, in the Hub's own words": answer(429, ratelimit='"api";r=0;t=55'),
    "Too many requests, and no word on when": answer(429),
    "A refusal without a word": answer(403),
    "Something new": answer(418, '{"error": "I am a teapot"}'),
}


def test_odd_answers(page, standin, api, repo_id):
    """Whatever comes instead of an answer is named as what it is, and nothing was published."""
    here = page("A Hub that answers oddly")
    for what, give in ODD.items():
        standin.forget()
        standin.say("GET", "/api/whoami-v2", give)
        here.run(what, "push", PT, "org/nav", env={"HF_ENDPOINT": standin.endpoint})
    assert not api.repo_exists(repo_id)


def test_odd_answers_to_readers(page, standin, repo_id):
    metta_hub.push(DATA / PT, repo_id)
    here = page("A Hub that answers oddly, to readers", json_too=True)
    env = {"HF_ENDPOINT": standin.endpoint}
    for what in ("A page for people", "An empty object", "A page about an error", "Too many requests, with a time"):
        standin.forget()
        standin.say("GET", f"/api/models/{repo_id}", ODD[what])
        here.run(what, "pull", "org/nav", env=env)
    standin.forget()
    standin.say("GET", f"/api/models/{repo_id}", answer(200, json.dumps({"id": repo_id, "sha": "../../etc"})))
    here.run("A commit that is none", "pull", "org/nav", env=env)
    standin.forget()
    standin.say("GET", f"/api/models/{repo_id}", sleep)
    here.run("It thinks, and thinks", "pull", "org/nav", env=env | {"HF_HUB_ETAG_TIMEOUT": "1"})
    standin.forget()
    standin.say("HEAD", "/resolve/", answer(200, "<html></html>"))
    here.run("Files without the Hub's headers", "pull", "org/nav", env=env)


def test_the_last_step_fails(page, standin, api, repo_id, run):
    """Between the upload and the commit's answer: what is known of the publication, and what is not."""
    metta_hub.push(run / "model_000140.pt", repo_id)
    here = page("The last step fails")
    env = {"HF_ENDPOINT": standin.endpoint}
    arguments = ("push", "run/model_000202.pt", "org/nav")
    moved = '{"error": "The branch was updated since you opened this page. Please refresh and try again."}'
    for what, give in (
        ("Somebody else publishes before each try", answer(412, moved)),
        ("The Hub refuses", answer(403, '{"error": "Not for you"}')),
        ("The Hub fails", answer(503, "<html>Service Unavailable</html>")),
        ("The Hub hangs up", hang_up),
        ("Too many commits", answer(429, retry_after=60)),
    ):
        standin.forget()
        standin.say("POST", "/commit/", give)
        here.run(what, *arguments, env=env)
    assert len(api.list_repo_commits(repo_id)) == 2
    standin.forget()
    standin.say("POST", "/commit/", hang_up, after=True)
    here.run("It is published, and the answer is lost", *arguments, env=env)
    again = here.call(*arguments)
    assert "Unchanged" in again.stdout
    assert len(api.list_repo_commits(repo_id)) == 3


# --- policies -------------------------------------------------------------------------------------------------------


def test_an_architecture_that_nothing_here_builds(folder, golden):
    """The weights are fine; what is known, and what else can be done."""
    document = (folder / PT).with_suffix(".json")
    document.write_text(document.read_text().replace('"LSTMPolicy"', '"NavPolicy"'))
    with pytest.raises(UnknownArchitectureError) as caught:
        metta_hub.from_pretrained(folder / PT)
    assert f"{caught.value}\nHint: {caught.value.hint}\n" == golden
