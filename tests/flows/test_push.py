"""push: what it sends, refuses and says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

import metta_hub
from metta_hub import errors
from support import DATA

PT = DATA / "run" / "model_000140.pt"


def sent_bytes(hub):
    return sum(request.received for request in hub.requests if "/lfs/" in request.path or "objects" in request.path)


def push_in_process(source, repo_id, *, seed):
    done = subprocess.run(
        [sys.executable, "-m", "metta_hub", "push", str(source), repo_id, "--json"],
        env=os.environ | {"PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_pushing_twice_from_two_processes_changes_nothing(repo_id, hub, api):
    first = push_in_process(PT, repo_id, seed=1)
    commits = len(api.list_repo_commits(repo_id))
    hub.requests.clear()
    second = push_in_process(PT, repo_id, seed=2)
    assert first["changed"] is True
    assert second["changed"] is False
    assert second["commit"] == first["commit"]
    assert second["files"] == first["files"]
    assert len(api.list_repo_commits(repo_id)) == commits
    assert sum(request.received for request in hub.requests) == 0


def test_the_same_input_gives_the_same_repo(repo_id, api):
    """But for the time of publication, in the index and what is hashed from it."""
    metta_hub.push(PT, repo_id)
    metta_hub.push(PT, f"{repo_id}-2")
    one, two = ({f.path: f for f in api.list_repo_tree(repo, recursive=True)} for repo in (repo_id, f"{repo_id}-2"))
    for path in ("model.safetensors", "model_000140.pt", "checkpoints/model_000140.json"):
        assert one[path].blob_id == two[path].blob_id


def test_the_layout_is_complete_from_the_first_push(repo_id, api):
    metta_hub.push(PT, repo_id)
    assert sorted(api.list_repo_files(repo_id)) == [
        ".gitattributes",
        "README.md",
        "checkpoints/index.json",
        "checkpoints/model_000140.json",
        "checkpoints/model_000140.recipe",
        "config.json",
        "model.safetensors",
        "model_000140.pt",
    ]


def test_the_former_root_is_copied_on_the_server(repo_id, hub, api, run):
    metta_hub.push(run / "model_000140.pt", repo_id)
    mirror = {f.path: f for f in api.list_repo_tree(repo_id, recursive=True)}["model.safetensors"].lfs.sha256
    metta_hub.push(run / "model_000202.pt", repo_id)
    tree = {f.path: f for f in api.list_repo_tree(repo_id, recursive=True)}
    assert tree["checkpoints/model_000140.safetensors"].lfs.sha256 == mirror
    assert "model_000140.pt" not in tree
    hub.requests.clear()
    again = metta_hub.push(run / "model_000140.pt", repo_id)
    assert again.changed
    assert again.root == "model_000140"
    # Of the weights only the .pt, which had left the head, is named again; the server has its bytes still.
    assert max(request.received for request in hub.requests) < 20_000


def test_no_promote_leaves_the_root(repo_id, run, api):
    metta_hub.push(run / "model_000140.pt", repo_id)
    pushed = metta_hub.push(run / "model_000202.pt", repo_id, promote=False)
    assert pushed.root == "model_000140"
    assert "checkpoints/model_000202.safetensors" in api.list_repo_files(repo_id)
    assert metta_hub.verify(repo_id).ok


def test_other_weights_of_the_same_name_are_replaced_with_a_warning(repo_id, run):
    metta_hub.push(run / "model_000140.pt", repo_id)
    (run / "model_000140.pt").write_bytes((run / "model_000202.pt").read_bytes())
    pushed = metta_hub.push(run / "model_000140.pt", repo_id)
    assert pushed.replaced
    assert "replaced" in pushed.warnings[0]
    assert metta_hub.verify(repo_id).ok


def test_another_runs_checkpoint_of_that_name_is_refused_without_replace(repo_id, run):
    metta_hub.push(run / "model_000140.pt", repo_id)
    document = run / "model_000140.json"
    document.write_text(document.read_text().replace('"hearts.lstm"', '"another"'))
    with pytest.raises(errors.ConflictError, match="another"):
        metta_hub.push(run / "model_000140.pt", repo_id)
    assert metta_hub.push(run / "model_000140.pt", repo_id, replace=True).changed


def test_visibility(repo_id, api):
    assert metta_hub.push(PT, repo_id, private=True).created
    assert api.model_info(repo_id).private
    assert not metta_hub.push(PT, repo_id).changed
    with pytest.raises(errors.ConflictError, match="private"):
        metta_hub.push(PT, repo_id, private=False)


def test_a_tag(repo_id, hub, run, tmp_path):
    pushed = metta_hub.push(PT, repo_id, tag="v1.0")
    assert metta_hub.pull(f"{repo_id}@v1.0", tmp_path).commit == pushed.commit
    hub.requests.clear()
    with pytest.raises(errors.ConflictError, match=r"v1\.0"):
        metta_hub.push(run / "model_000202.pt", repo_id, tag="v1.0")
    assert sent_bytes(hub) == 0
    metta_hub.push(run / "model_000202.pt", repo_id)
    with pytest.raises(errors.ConflictError, match=r"v1\.0"):
        metta_hub.push(run / "model_000202.pt", repo_id, tag="v1.0")


def test_a_push_with_a_tag_again_finds_what_it_made(repo_id):
    """As after a run that was killed before it could say that it was done."""
    pushed = metta_hub.push(PT, repo_id)
    assert not metta_hub.push(PT, repo_id, tag="v1.0").changed
    again = metta_hub.push(PT, repo_id, tag="v1.0")
    assert not again.changed
    assert again.commit == pushed.commit


def test_a_branch_is_made(repo_id, run, tmp_path):
    main = metta_hub.push(run / "model_000140.pt", repo_id)
    branch = metta_hub.push(run / "model_000202.pt", repo_id, revision="exp/a")
    assert metta_hub.pull(repo_id, tmp_path / "a").commit == main.commit
    assert metta_hub.pull(f"{repo_id}@exp/a", tmp_path / "b").commit == branch.commit


def test_a_pull_request(repo_id, run, tmp_path):
    main = metta_hub.push(run / "model_000140.pt", repo_id)
    proposed = metta_hub.push(run / "model_000202.pt", repo_id, create_pr=True)
    assert proposed.url.endswith("/discussions/1")
    assert metta_hub.pull(repo_id, tmp_path / "a").commit == main.commit
    assert metta_hub.pull(repo_id, tmp_path / "b", revision="refs/pr/1").checkpoint == "model_000202"


def test_a_dry_run_publishes_nothing(repo_id, api, run):
    planned = metta_hub.push(PT, repo_id, dry_run=True)
    assert planned.changed
    assert planned.commit is None
    assert planned.sent > 1_300_000
    assert not api.repo_exists(repo_id)
    metta_hub.push(PT, repo_id)
    assert not metta_hub.push(PT, repo_id, dry_run=True).changed
    assert metta_hub.push(run / "model_000202.pt", repo_id, dry_run=True).changed


def test_a_read_token_is_refused_before_any_work(repo_id, hub):
    metta_hub.push(PT, repo_id)
    token = hub.hub.add_token(hub.user, role="read")
    hub.requests.clear()
    with pytest.raises(errors.HubAccessError, match="token given with --token"):
        metta_hub.push(DATA / "run" / "model_000202.pt", repo_id, token=token)
    assert not [request for request in hub.requests if "commit" in request.path or "lfs" in request.path]


def test_who_may_only_read_may_propose(repo_id, hub):
    metta_hub.push(PT, repo_id)
    token = hub.hub.add_user(f"reader-{repo_id[4:]}")
    with pytest.raises(errors.HubAccessError, match="not write"):
        metta_hub.push(DATA / "run" / "model_000202.pt", repo_id, token=token)
    assert metta_hub.push(DATA / "run" / "model_000202.pt", repo_id, token=token, create_pr=True).changed


def test_a_source_that_changes_meanwhile_stops_the_push(repo_id, run, api, monkeypatch):
    from metta_hub.hub import Hub

    commit = Hub.commit

    def touch(self, *arguments, **options):
        (run / "model_000140.json").touch()
        return commit(self, *arguments, **options)

    monkeypatch.setattr(Hub, "commit", touch)
    with pytest.raises(errors.SourceChangedError, match="changed while"):
        metta_hub.push(run / "model_000140.pt", repo_id)
    assert api.list_repo_files(repo_id) == [".gitattributes"]


def test_home_paths_lose_their_head_and_are_listed(repo_id, tmp_path):
    pushed = metta_hub.push(PT, repo_id, settings=["note=/home/alice1/runs/x"])
    assert [item.pointer for item in pushed.redactions] == ["/uri", "/note"]
    pulled = json.loads(metta_hub.pull(repo_id, tmp_path).json.read_text())
    assert pulled["note"] == "~/runs/x"
    assert pulled["metta_hub"]["redactions"][0]["pointer"] == "/note"


SECRET = "hf_" + "a1B2c3D4e5" * 4


@pytest.mark.parametrize(
    "options",
    [
        {"settings": [f"note=see {SECRET}"]},
        {"commit_message": f"with {SECRET}"},
        {"commit_description": SECRET},
        {"license": SECRET},
    ],
)
def test_a_token_stops_the_push_and_is_never_shown(repo_id, options, api):
    with pytest.raises(errors.MettaHubError) as caught:
        metta_hub.push(PT, repo_id, **options)
    assert SECRET not in str(caught.value) + caught.value.hint
    assert not api.repo_exists(repo_id) or api.list_repo_files(repo_id) == [".gitattributes"]


def test_a_token_in_a_tensors_name_stops_the_push(repo_id, tmp_path, api):
    import torch

    torch.save({SECRET: torch.zeros(1)}, tmp_path / "leak.pt")
    with pytest.raises(errors.SecretError) as caught:
        metta_hub.push(tmp_path / "leak.pt", repo_id)
    assert SECRET not in str(caught.value)
    assert not api.repo_exists(repo_id)


def test_a_card_that_somebody_edited_stays_whatever_is_pushed(repo_id, run, upload):
    metta_hub.push(run / "model_000020.pt", repo_id)
    upload(repo_id, "README.md", b"---\nlicense: mit\n---\n# Mine\n")
    for name in ("model_000202", "model_000140"):
        pushed = metta_hub.push(run / f"{name}.pt", repo_id, license="apache-2.0")
        assert pushed.license == "mit"
        assert "kept as it is" in pushed.warnings[0]
        assert "# Mine" in Path(hf_hub_download(repo_id, "README.md")).read_text()
        assert metta_hub.verify(repo_id).ok


def test_the_licence_stays_when_it_is_not_given_again(repo_id, run, api):
    metta_hub.push(run / "model_000140.pt", repo_id, license="mit")
    assert metta_hub.push(run / "model_000202.pt", repo_id).license == "mit"
    assert api.model_info(repo_id).card_data.license == "mit"


def test_a_moved_parent_is_planned_again(repo_id, run, api, monkeypatch):
    metta_hub.push(run / "model_000020.pt", repo_id)
    from metta_hub.hub import Hub

    commit, others = Hub.commit, [run / "model_000202.pt"]

    def overtaken(self, *arguments, **options):
        if others:
            metta_hub.push(others.pop(), repo_id)
        return commit(self, *arguments, **options)

    monkeypatch.setattr(Hub, "commit", overtaken)
    pushed = metta_hub.push(run / "model_000140.pt", repo_id)
    assert pushed.root == "model_000140"
    assert {item.checkpoint for item in metta_hub.list_checkpoints(repo_id)} == {
        "model_000020",
        "model_000140",
        "model_000202",
    }
    assert metta_hub.verify(repo_id).ok


def test_a_bare_name_is_the_callers_own(hub, repo_id):
    assert metta_hub.push(PT, repo_id.replace("/", "-")).repo_id == f"{hub.user}/{repo_id.replace('/', '-')}"


def test_a_foreign_block_is_scrubbed_wherever_it_is_published(repo_id, run, api):
    document = run / "model_000140.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | {"metta_hub": {"cache": "/home/alice1/secret"}}))
    pushed = metta_hub.push(run / "model_000140.pt", repo_id)
    assert "/metta_hub/cache" in [item.pointer for item in pushed.redactions]
    for path in api.list_repo_files(repo_id):
        assert b"alice1" not in Path(hf_hub_download(repo_id, path)).read_bytes(), path


def test_metadata_that_could_not_be_read_back_are_not_published(repo_id, run, api):
    nested = "1"
    for _ in range(63):
        nested = f"[{nested}]"
    document = run / "model_000140.json"
    document.write_text(f'{{"epoch": 140, "metta_hub": {nested}}}')
    with pytest.raises(errors.MetadataError, match="nested deeper"):
        metta_hub.push(run / "model_000140.pt", repo_id)
    assert not api.repo_exists(repo_id)


def test_a_block_of_a_later_version_is_not_taken_for_somebody_elses(repo_id, run):
    document = run / "model_000140.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | {"metta_hub": {"format_version": 2}}))
    with pytest.raises(errors.MetadataError, match="newer") as caught:
        metta_hub.push(run / "model_000140.pt", repo_id)
    assert "upgrade" in caught.value.hint


def test_lines_that_the_hub_adds_to_gitattributes_are_no_damage(repo_id, upload):
    metta_hub.push(PT, repo_id)
    content = Path(hf_hub_download(repo_id, ".gitattributes")).read_bytes()
    upload(repo_id, ".gitattributes", content + b"big.json filter=lfs diff=lfs merge=lfs -text\n")
    assert metta_hub.verify(repo_id).ok


def test_the_front_is_the_same_however_the_root_was_learned_of(repo_id, tmp_path, run):
    (tmp_path / "bare_0007.pt").write_bytes(PT.read_bytes())
    metta_hub.push(tmp_path / "bare_0007.pt", repo_id)
    before = json.loads(Path(hf_hub_download(repo_id, "config.json")).read_text())
    metta_hub.push(run / "model_000202.pt", repo_id, promote=False)
    after = json.loads(Path(hf_hub_download(repo_id, "config.json")).read_text())
    changed = {"files", "self"}
    assert before | {"metta_hub": 0} == after | {"metta_hub": 0}
    for key in (before["metta_hub"].keys() | after["metta_hub"].keys()) - changed:
        assert before["metta_hub"][key] == after["metta_hub"][key]


def test_another_tools_repo_is_not_overwritten(repo_id, api, upload):
    api.create_repo(repo_id)
    upload(repo_id, "config.json", b"{}")
    with pytest.raises(errors.ConflictError, match=r"holds config\.json"):
        metta_hub.push(PT, repo_id)
    assert metta_hub.push(PT, repo_id, replace=True).changed


def test_a_repo_folder_is_published_elsewhere_with_its_original_pt(repo_id, run, tmp_path):
    from huggingface_hub import snapshot_download

    metta_hub.push(run / "model_000140.pt", repo_id)
    folder = snapshot_download(repo_id, local_dir=tmp_path / "repo")
    (tmp_path / "repo" / "model_000140.pt").unlink()
    assert metta_hub.push(folder, f"{repo_id}-copy").checkpoint == "model_000140"
    pulled = metta_hub.pull(f"{repo_id}-copy", tmp_path / "pulled")
    assert pulled.identical
    assert pulled.pt.read_bytes() == PT.read_bytes()


def test_metadata_larger_than_a_hub_keeps_in_git(repo_id, run, tmp_path):
    """Such a document goes to LFS, on a Hub without xet."""
    document = run / "model_000140.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | {"log": "x" * 11_000_000}))
    metta_hub.push(run / "model_000140.pt", repo_id)
    assert metta_hub.pull(repo_id, tmp_path / "pulled").identical
    assert metta_hub.verify(repo_id).ok


def test_storages_that_no_tensor_uses_are_not_published_unseen(repo_id, tmp_path, api):
    import torch

    torch.save({"view": torch.zeros(500_000)[:10]}, tmp_path / "fat_0001.pt")
    with pytest.raises(errors.FormatError, match="belong to no tensor"):
        metta_hub.push(tmp_path / "fat_0001.pt", repo_id)
    assert not api.repo_exists(repo_id)
    assert metta_hub.push(tmp_path / "fat_0001.pt", repo_id, pt=False).sent < 20_000
