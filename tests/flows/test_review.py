"""Rules that a first version broke: each test is named after the rule that it keeps."""

import json
import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download

import metta_hub
from metta_hub import errors
from metta_hub.api.card import card
from support import DATA

PT = DATA / "run" / "model_000140.pt"


def test_pushing_old_and_new_in_turn_changes_nothing_the_second_time(repo_id, run):
    """The card is the same whether the root was just pushed or is described from the Hub."""
    for changed in (True, False):
        assert metta_hub.push(run / "model_000140.pt", repo_id).changed is changed
        assert metta_hub.push(run / "model_000020.pt", repo_id, promote=False).changed is changed


def test_so_it_does_with_tied_weights(repo_id, run, tmp_path):
    weight = torch.ones(2)
    torch.save({"z": weight, "a": weight, "m": torch.zeros(1), "b": weight}, tmp_path / "tied_0001.pt")
    for changed in (True, False):
        assert metta_hub.push(tmp_path / "tied_0001.pt", repo_id).changed is changed
        assert metta_hub.push(run / "model_000020.pt", repo_id, promote=False).changed is changed


def test_a_bad_tag_is_refused_before_anything_is_published(repo_id, api):
    with pytest.raises(errors.UsageError, match="bad tag"):
        metta_hub.push(PT, repo_id, tag="bad tag")
    assert not api.repo_exists(repo_id)


@pytest.mark.parametrize(
    "options",
    [{"template": "nope"}, {"license": "notalicense: x"}, {"settings": ["epoch=x"]}, {"metadata_file": Path("nope")}],
)
def test_a_refused_push_makes_no_repo(repo_id, api, options):
    with pytest.raises((errors.MettaHubError, OSError)):
        metta_hub.push(PT, repo_id, **options)
    assert not api.repo_exists(repo_id)


def test_a_refused_push_makes_no_branch(repo_id, run, api):
    metta_hub.push(run / "model_000140.pt", repo_id)
    document = run / "model_000140.json"
    document.write_text(document.read_text().replace('"hearts.lstm"', '"another"'))
    with pytest.raises(errors.ConflictError):
        metta_hub.push(run / "model_000140.pt", repo_id, revision="exp")
    assert [branch.name for branch in api.list_repo_refs(repo_id).branches] == ["main"]


def test_a_revision_is_given_once_and_is_a_branch(repo_id, api):
    with pytest.raises(errors.UsageError, match="already"):
        metta_hub.push(PT, f"{repo_id}@main", revision="dev")
    commit = metta_hub.push(PT, repo_id, tag="v1").commit
    with pytest.raises(errors.ConflictError, match="tag"):
        metta_hub.push(PT, repo_id, revision="v1")
    with pytest.raises(errors.UsageError, match="commit"):
        metta_hub.push(PT, repo_id, revision=commit)


def test_an_eval_of_any_size_is_published(repo_id):
    assert metta_hub.push(PT, repo_id, settings=["evals.huge=1e308", "evals.tiny=1e-300"]).changed


ESCAPES = "\x1b[31mred\x1b]0;title\x07 \u202eback"


def test_no_escape_sequence_reaches_the_terminal(repo_id, tmp_path, cli, upload):
    torch.save({ESCAPES: torch.ones(1)}, tmp_path / "evil_0001.pt")
    metta_hub.push(tmp_path / "evil_0001.pt", repo_id, settings=[f"run_name={ESCAPES}"])
    shown = [cli(*command, repo_id) for command in (["card"], ["inspect"], ["verify"], ["list"])]
    document = json.loads(Path(hf_hub_download(repo_id, "checkpoints/evil_0001.json")).read_text())
    document["metta_hub"]["tied"] = [[ESCAPES, f"{ESCAPES} two"]]
    upload(repo_id, "checkpoints/evil_0001.json", json.dumps(document).encode())
    shown.append(cli("inspect", repo_id, code=1))
    for done in shown:
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)


def test_a_rotten_cached_index_is_healed(repo_id, tmp_path):
    metta_hub.push(PT, repo_id)
    cached = Path(hf_hub_download(repo_id, "checkpoints/index.json"))
    cached.resolve().write_text('{"a"')
    assert metta_hub.verify(repo_id).ok
    cached.resolve().write_text('{"a"')
    assert not metta_hub.push(PT, repo_id).changed
    assert metta_hub.pull(repo_id, tmp_path).identical


@pytest.mark.parametrize("tied", [[[]], [["a"]], [["_net.0.bias", "_net.0.bias"]], [["a", "b"], ["b", "c"]]])
def test_tied_groups_that_nobody_could_have_written_are_foreign(repo_id, upload, tied):
    metta_hub.push(PT, repo_id)
    document = json.loads(Path(hf_hub_download(repo_id, "checkpoints/model_000140.json")).read_text())
    document["metta_hub"]["tied"] = tied
    upload(repo_id, "checkpoints/model_000140.json", json.dumps(document).encode())
    assert metta_hub.inspect(repo_id).tied == ()
    assert not metta_hub.verify(repo_id).ok


@pytest.mark.parametrize("missing", ["checkpoints/model_000140.json", "model.safetensors"])
def test_an_index_entry_without_its_files_is_refused(repo_id, upload, missing, tmp_path):
    metta_hub.push(PT, repo_id)
    index = json.loads(Path(hf_hub_download(repo_id, "checkpoints/index.json")).read_text())
    del index["checkpoints"][0]["files"][missing]
    upload(repo_id, "checkpoints/index.json", json.dumps(index).encode())
    for call in (lambda: metta_hub.pull(repo_id, tmp_path), lambda: metta_hub.inspect(repo_id)):
        with pytest.raises(errors.MettaHubError, match="lacks"):
            call()
    assert not metta_hub.verify(repo_id).ok


def test_a_card_or_a_list_is_of_a_repo_not_of_a_checkpoint(repo_id):
    metta_hub.push(PT, repo_id)
    for call in (card, metta_hub.list_checkpoints):
        with pytest.raises(errors.UsageError, match="one checkpoint"):
            call(f"{repo_id}:model_000140")


def test_the_card_of_a_repo_is_the_one_that_a_push_would_publish(repo_id, upload):
    metta_hub.push(PT, repo_id, license="mit")
    published = Path(hf_hub_download(repo_id, "README.md")).read_text()
    assert card(repo_id) == published
    upload(repo_id, "README.md", b"---\nlicense: mit\n---\n# Mine\n")
    assert card(repo_id) == "---\nlicense: mit\n---\n# Mine\n"


def test_home_paths_are_scrubbed_from_messages_and_templates(repo_id, tmp_path, api):
    template = tmp_path / "mine.md"
    template.write_text("{{ front_matter }}\nmade in /home/alice1/work\n")
    metta_hub.push(
        PT,
        repo_id,
        commit_message="from /home/alice1/x",
        commit_description="see /home/alice1/y",
        template=str(template),
    )
    commit = api.list_repo_commits(repo_id)[0]
    assert "alice1" not in commit.title + commit.message
    assert "alice1" not in Path(hf_hub_download(repo_id, "README.md")).read_text()


SECRET = "hf_" + "a1B2c3D4e5" * 4


@pytest.mark.parametrize("name", [f"x{SECRET}", "/home/alice1/secret.w"])
def test_what_stands_in_the_weights_themselves_stops_the_push(repo_id, tmp_path, name):
    torch.save({name: torch.ones(1)}, tmp_path / "leak_0001.pt")
    with pytest.raises(errors.SecretError):
        metta_hub.push(tmp_path / "leak_0001.pt", repo_id)


def test_a_token_in_the_state_dicts_own_metadata_stops_the_push(repo_id, tmp_path):
    state = torch.nn.Linear(1, 1).state_dict()
    state._metadata[SECRET] = {"version": 1}
    torch.save(state, tmp_path / "leak_0001.pt")
    with pytest.raises(errors.SecretError) as caught:
        metta_hub.push(tmp_path / "leak_0001.pt", repo_id)
    assert "--no-pt" in caught.value.hint
    assert metta_hub.push(tmp_path / "leak_0001.pt", repo_id, pt=False).changed


def test_one_bad_file_does_not_stop_a_list(run, cli):
    (run / "model_000020.json").write_text('{"epoch": 1, "epoch": 2}')
    done = cli("list", run)
    assert "model_000140" in done.stdout
    assert "model_000020.json" in done.stderr


def test_a_name_that_means_something_else_is_listed_as_it_would_be_published(run, repo_id, cli):
    for suffix in (".pt", ".json"):
        (run / f"model_000202{suffix}").rename(run / f"best{suffix}")
    assert "best_" in cli("list", run).stdout
    assert metta_hub.push(run / "best.pt", repo_id).checkpoint == "best_"
    assert metta_hub.pull(f"{repo_id}:best_", run / "again").pt.read_bytes() == (run / "best.pt").read_bytes()


def test_identical_is_said_only_of_the_authors_file(repo_id, upload, tmp_path):
    metta_hub.push(PT, repo_id)
    document = json.loads(Path(hf_hub_download(repo_id, "checkpoints/model_000140.json")).read_text())
    document["metta_hub"]["weights"]["sha256"] = "0" * 64
    content = json.dumps(document).encode()
    index = json.loads(Path(hf_hub_download(repo_id, "checkpoints/index.json")).read_text())
    import hashlib

    record = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    index["checkpoints"][0]["files"]["checkpoints/model_000140.json"] = record
    upload(repo_id, "checkpoints/model_000140.json", content)
    upload(repo_id, "checkpoints/index.json", json.dumps(index).encode())
    with pytest.raises(errors.ChecksumError):
        metta_hub.pull(repo_id, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{{ 1/0 }}", "{% include 'x' %}", "{{ title() }}"])
def test_a_template_that_fails_is_the_templates_error(tmp_path, text):
    (tmp_path / "mine.md").write_text(text)
    with pytest.raises(errors.FileError, match="cannot be filled in"):
        card(PT, template=str(tmp_path / "mine.md"))


def test_a_tensor_left_on_meta_is_an_error_that_names_it(tmp_path, monkeypatch):
    from metta_hub import policies

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.register_buffer("scratch", torch.ones(1), persistent=False)

    def builder(_):
        with torch.device("meta"):
            return Net()

    monkeypatch.setattr(policies, "_BUILDERS", {"Net": builder})
    torch.save({"weight": torch.ones(1)}, tmp_path / "net_0001.pt")
    (tmp_path / "net_0001.json").write_text('{"model_info": {"type": "Net"}}')
    with pytest.raises(errors.WeightsMismatchError, match="scratch"):
        metta_hub.from_pretrained(tmp_path / "net_0001.pt")


def test_a_pipe_is_no_checkpoint_and_does_not_hang(tmp_path, cli):
    os.mkfifo(tmp_path / "fifo.pt")
    assert "not a regular file" in cli("push", tmp_path / "fifo.pt", "org/nav", code=1).stderr


def test_a_home_folder_is_expanded(monkeypatch, run, repo_id):
    monkeypatch.setenv("HOME", str(run))
    assert metta_hub.push("~/model_000140.pt", repo_id).changed


def test_closed_streams_are_no_error(run):
    import subprocess
    import sys

    command = f"{sys.executable} -m metta_hub list {run} >&- 2>&-"
    assert subprocess.run(command, shell=True, env=os.environ, check=False).returncode == 0


def test_a_dangling_link_is_something_else_too(repo_id, tmp_path):
    metta_hub.push(PT, repo_id)
    (tmp_path / "model_000140.pt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.ConflictError):
        metta_hub.pull(repo_id, tmp_path)
    assert (tmp_path / "model_000140.pt").is_symlink()


def test_quiet_says_nothing_but_errors(cli, repo_id):
    assert cli("push", PT, repo_id, "-q").stderr == ""


@pytest.mark.parametrize("endpoint", ["junk", "ftp://example.org"])
def test_an_endpoint_that_is_none_is_said_to_be_none(cli, endpoint):
    assert "HF_ENDPOINT" in cli("pull", "org/nav", env={"HF_ENDPOINT": endpoint}, code=2).stderr


def test_a_token_that_cannot_be_sent_is_refused(cli):
    assert "token" in cli("pull", "org/nav", "--token", "hf_ä", code=2).stderr
