"""Looking at repos and revisions."""

import io
import json
import re

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, RepoFile, RepoFolder
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from metta_hub.localhub import Server

CARD = b"""
---
license: mit
library_name: metta
pipeline_tag: reinforcement-learning
tags: [rl, navigation]
datasets: [a/b]
base_model: x/y
released: 2024-05-06
model-index:
- name: nav
  results:
  - task: {type: reinforcement-learning}
    dataset: {type: metta, name: navigation}
    metrics: [{type: mean_reward, value: 1.5}]
---
# Nav
"""


@pytest.fixture
def filled(api: HfApi, repo: str) -> str:
    api.create_commit(
        repo,
        [
            CommitOperationAdd("README.md", CARD),
            CommitOperationAdd("config.json", b'{"model_type": "nav", "secret": 1}'),
            CommitOperationAdd("checkpoints/a/one.json", b"{}"),
            CommitOperationAdd("model.safetensors", io.BytesIO(b"w" * 2000)),
        ],
        commit_message="fill",
    )
    return repo


def test_model_info(api: HfApi, filled: str):
    info = api.model_info(filled)
    assert (info.id, info.author, info.private, info.gated) == (filled, "org", False, False)
    assert info.sha == api.list_repo_commits(filled)[0].commit_id
    assert [s.rfilename for s in info.siblings] == [
        ".gitattributes", "README.md", "checkpoints/a/one.json", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert info.pipeline_tag == "reinforcement-learning"
    assert info.library_name == "metta"
    assert info.config == {"model_type": "nav"}
    assert info.card_data.license == "mit"
    assert info.card_data.eval_results[0].metric_value == 1.5
    assert {"rl", "navigation", "metta", "license:mit", "dataset:a/b", "base_model:x/y", "region:us"} <= {*info.tags}
    assert info.created_at <= info.last_modified
    assert info.used_storage == 2000


def test_model_info_with_blobs(api: HfApi, filled: str):
    siblings = {s.rfilename: s for s in api.model_info(filled, files_metadata=True).siblings}
    assert siblings["checkpoints/a/one.json"].size == 2
    assert siblings["checkpoints/a/one.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    large = siblings["model.safetensors"]
    assert (large.size, large.lfs.size) == (2000, 2000)
    assert len(large.lfs.sha256) == 64
    assert large.lfs.pointer_size > 100


def test_model_info_expands_only_what_is_asked(ask, filled: str):
    answer = ask("GET", f"/api/models/{filled}?expand=sha&expand=tags")
    assert set(answer.json) == {"_id", "id", "sha", "tags"}


def test_info_by_branch_tag_pull_request_full_and_short_sha(api: HfApi, filled: str):
    sha = api.model_info(filled).sha
    api.create_branch(filled, branch="exp/a")
    api.create_tag(filled, tag="v1.0", tag_message="one")
    pull = api.create_commit(filled, [CommitOperationAdd("b.txt", b"b")], commit_message="propose", create_pr=True)
    for revision in ("main", "exp/a", "v1.0", "refs/heads/exp/a", "refs/tags/v1.0", sha, sha[:7]):
        assert api.model_info(filled, revision=revision).sha == sha
    assert api.model_info(filled, revision="refs/pr/1").sha == pull.oid
    for revision in ("nope", "f" * 40, "0123456", "refs/pr/99", "main~1", "HEAD^", "../main", "a" * 500):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(filled, revision=revision)


def test_head_of_model_info(ask, filled: str):
    answer = ask("HEAD", f"/api/models/{filled}")
    assert (answer.status, answer.body) == (200, b"")


def test_tree_lists_folders_when_recursive(api: HfApi, filled: str):
    items = {item.path: item for item in api.list_repo_tree(filled, recursive=True)}
    assert isinstance(items["checkpoints"], RepoFolder)
    assert isinstance(items["checkpoints/a"], RepoFolder)
    assert isinstance(items["checkpoints/a/one.json"], RepoFile)
    assert items["model.safetensors"].lfs.size == 2000
    assert items["checkpoints"].last_commit is None


def test_tree_of_a_folder(api: HfApi, filled: str):
    assert [item.path for item in api.list_repo_tree(filled)] == [
        ".gitattributes", "README.md", "checkpoints", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert [item.path for item in api.list_repo_tree(filled, "checkpoints/a")] == ["checkpoints/a/one.json"]


def test_tree_errors(api: HfApi, filled: str):
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(filled, "no/such/folder"))
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree(filled, revision="nope"))


def test_expand_tells_the_last_commit_of_each_path(api: HfApi, filled: str):
    api.upload_file(path_or_fileobj=b"[]", path_in_repo="checkpoints/a/two.json", repo_id=filled, commit_message="2")
    found = {item.path: item.last_commit.title for item in api.list_repo_tree(filled, recursive=True, expand=True)}
    assert found == {
        ".gitattributes": "initial commit",
        "README.md": "fill",
        "checkpoints": "2",
        "checkpoints/a": "2",
        "checkpoints/a/one.json": "fill",
        "checkpoints/a/two.json": "2",
        "config.json": "fill",
        "model.safetensors": "fill",
    }


def test_long_trees_come_in_pages_of_one_commit(api: HfApi, server: Server, ask, filled: str, monkeypatch):
    api.create_branch(filled, branch="exp/a")
    monkeypatch.setattr(server.hub.limits, "page", 3)
    paths = [item.path for item in api.list_repo_tree(filled, recursive=True, revision="exp/a")]
    assert len(paths) == len(set(paths)) == 7
    answer = ask("GET", f"/api/models/{filled}/tree/exp%2Fa?recursive=true")
    sha = api.model_info(filled).sha
    link = answer.headers["Link"]
    assert link.startswith(f"<{server.endpoint}/api/models/{filled}/tree/{sha}?recursive=true&cursor=3>")
    assert link.endswith('rel="next"')


def test_paths_info_leaves_out_what_is_not_there(api: HfApi, filled: str):
    found = api.get_paths_info(filled, ["checkpoints", "model.safetensors", "nope", "../x"], expand=True)
    assert [item.path for item in found] == ["checkpoints", "model.safetensors"]
    assert found[1].last_commit.title == "fill"


def test_paths_info_takes_json_too(ask, filled: str):
    answer = ask("POST", f"/api/models/{filled}/paths-info/main", {"paths": ["config.json"], "expand": False})
    assert [item["path"] for item in answer.json] == ["config.json"]
    assert ask("POST", f"/api/models/{filled}/paths-info/main", {"paths": [1]}).status == 400


def test_list_models_filters_and_all_must_fit(api: HfApi, filled: str):
    def ids(**query) -> set[str]:
        return {model.id for model in api.list_models(**query)}

    assert filled in ids(filter=["rl", "license:mit"])
    assert filled not in ids(filter=["rl", "license:apache-2.0"])
    assert filled in ids(author="ORG")
    assert filled not in ids(author="or")
    assert filled in ids(search=filled.split("/")[1][1:].upper())
    assert filled in ids(pipeline_tag="reinforcement-learning")
    assert filled not in ids(pipeline_tag="text-generation")


def test_list_models_says_more_when_asked(api: HfApi, filled: str):
    (short,) = [model for model in api.list_models(author="org") if model.id == filled]
    assert (short.siblings, short.sha, short.card_data) == (None, None, None)
    (full,) = [model for model in api.list_models(author="org", full=True, cardData=True) if model.id == filled]
    assert full.siblings
    assert full.sha
    assert full.card_data.license == "mit"
    (expanded,) = [model for model in api.list_models(author="org", expand=["config"]) if model.id == filled]
    assert expanded.config == {"model_type": "nav"}
    assert expanded.tags is None


def test_list_models_sorts_and_pages(api: HfApi, server: Server, ask, monkeypatch):
    for name in "abcde":
        api.create_repo(f"pages/{name}")
    monkeypatch.setattr(server.hub.limits, "page", 2)
    found = [model.id for model in api.list_models(author="pages", sort="createdAt")]
    assert found == [f"pages/{name}" for name in "edcba"]
    assert [model.id for model in api.list_models(author="pages", limit=3)] != []
    assert len(list(api.list_models(author="pages", limit=3))) == 3
    assert ask("GET", "/api/models?sort=nonsense").status == 400


@pytest.mark.parametrize(
    "head",
    [
        b"license: [",
        b"- a list",
        b"a: &a [x,x]\nb: &b [*a,*a]",
        b"x: .nan\ny: .inf",
        b"d: 2024-13-45",
        b"n: 0x" + b"f" * 9000,
    ],
)
def test_odd_cards_do_no_harm(api: HfApi, repo: str, ask, head: bytes, monkeypatch):
    readme = b"---\n" + head + b"\n---\n"
    lines = b'{"key":"header","value":{"summary":"card"}}\n{"key":"file","value":{"path":"README.md","content":'
    text = lines + json.dumps(readme.decode()).encode() + b"}}\n"
    assert ask("POST", f"/api/models/{repo}/commit/main", text).status == 200
    assert api.model_info(repo).id == repo


def test_a_card_that_explodes_is_ignored(api: HfApi, ask, repo: str):
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    body = {"key": "file", "value": {"path": "README.md", "content": f"---\n{bomb}---\n"}}
    lines = [{"key": "header", "value": {"summary": "bomb"}}, body]
    text = "\n".join(map(json.dumps, lines)).encode()
    assert ask("POST", f"/api/models/{repo}/commit/main", text).status == 200
    assert api.model_info(repo).card_data in (None, {}) or not api.model_info(repo).card_data.to_dict()


def test_model_info_has_the_shape_that_clients_read(ask, filled: str):
    """Section 2, key by key."""
    info = ask("GET", f"/api/models/{filled}").json
    assert set(info) == {
        "_id", "id", "modelId", "author", "sha", "lastModified", "createdAt", "private", "gated", "disabled",
        "downloads", "likes", "tags", "pipeline_tag", "library_name", "cardData", "model-index", "config",
        "siblings", "spaces", "usedStorage",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", info["lastModified"])
    assert len(info["sha"]) == 40
    blobs = ask("GET", f"/api/models/{filled}?blobs=true").json["siblings"][-1]
    assert set(blobs) == {"rfilename", "size", "blobId", "lfs"}
    assert set(blobs["lfs"]) == {"sha256", "size", "pointerSize"}


def test_security_status_says_that_nothing_was_scanned(api: HfApi, filled: str):
    assert api.model_info(filled, securityStatus=True).security_repo_status["scansDone"] is False


def test_missing_revision_is_revision_not_found_for_every_question(ask, filled: str):
    for method, path in (
        ("GET", "revision/nope"),
        ("GET", "tree/nope"),
        ("POST", "paths-info/nope"),
        ("GET", "commits/nope"),
        ("POST", "preupload/nope"),
        ("POST", "commit/nope"),
        ("POST", "super-squash/nope"),
    ):
        answer = ask(method, f"/api/models/{filled}/{path}", {"paths": [], "files": [], "message": "x"})
        assert (answer.status, answer.headers["X-Error-Code"]) == (404, "RevisionNotFound"), path


def test_tree_items_have_the_shape_that_clients_read(ask, filled: str):
    items = {item["path"]: item for item in ask("GET", f"/api/models/{filled}/tree/main?expand=true").json}
    assert set(items["checkpoints"]) == {"type", "path", "oid", "size", "lastCommit"}
    assert (items["checkpoints"]["type"], items["checkpoints"]["size"]) == ("directory", 0)
    assert set(items["config.json"]) == {"type", "path", "oid", "size", "lastCommit"}
    assert set(items["model.safetensors"]["lfs"]) == {"oid", "size", "pointerSize"}
    assert set(items["config.json"]["lastCommit"]) == {"id", "title", "date"}
    assert "xetHash" not in items["model.safetensors"]
    assert "lastCommit" not in ask("GET", f"/api/models/{filled}/tree/main").json[0]


def test_tree_of_a_folder_with_its_slash_encoded(ask, filled: str):
    answer = ask("GET", f"/api/models/{filled}/tree/main/checkpoints%2Fa")
    assert [item["path"] for item in answer.json] == ["checkpoints/a/one.json"]


def test_missing_folder_is_entry_not_found(ask, filled: str):
    for path in ("nope", "config.json", "checkpoints%2Fnope"):
        answer = ask("GET", f"/api/models/{filled}/tree/main/{path}")
        assert (answer.status, answer.headers["X-Error-Code"]) == (404, "EntryNotFound")
        assert answer.headers["X-Repo-Commit"] or path == "config.json"


def test_expanded_trees_have_shorter_pages(ask, api: HfApi, server: Server, filled: str, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "detailed_page", 2)
    assert len(ask("GET", f"/api/models/{filled}/tree/main?expand=true").json) == 2
    found = [item.last_commit.title for item in api.list_repo_tree(filled, recursive=True, expand=True)]
    assert len(found) == 7


def test_paths_info_takes_forms(ask, filled: str):
    """As the Python client sends it."""
    body = b"paths=config.json&paths=checkpoints&paths=n%C3%B6&expand=false"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = ask("POST", f"/api/models/{filled}/paths-info/main", body, headers=headers)
    assert [(item["type"], item["path"]) for item in answer.json] == [
        ("file", "config.json"), ("directory", "checkpoints"),
    ]  # fmt: skip


def test_list_models_by_what_no_model_here_has_finds_none(api: HfApi, filled: str):
    for query in (
        {"apps": "ollama"},
        {"inference": "warm"},
        {"inference_provider": "all"},
        {"num_parameters": "min:1B"},
    ):
        assert list(api.list_models(author="org", **query)) == []
    assert filled in [model.id for model in api.list_models(trained_dataset="a/b")]
    assert list(api.list_models(emissions_thresholds=(0, 100), author="org", cardData=True)) == []


def test_list_models_by_gate(api: HfApi, filled: str):
    assert filled in [model.id for model in api.list_models(gated=False)]
    api.update_repo_settings(filled, gated="manual")
    assert filled in [model.id for model in api.list_models(gated=True)]
    assert filled not in [model.id for model in api.list_models(gated=False)]


def test_list_models_links_to_the_next_page(ask, api: HfApi, server: Server):
    for name in "abc":
        api.create_repo(f"linked/{name}")
    answer = ask("GET", "/api/models?author=linked&limit=2&sort=createdAt")
    link = answer.headers["Link"]
    assert link.startswith(f"<{server.endpoint}/api/models?author=linked&limit=2&sort=createdAt&cursor=2>")
    following = ask("GET", link.partition(">")[0][1:])
    assert [item["id"] for item in following.json] == ["linked/a"]
    assert "Link" not in following.headers


@pytest.mark.parametrize("sort", ["createdAt", "lastModified", "downloads", "likes", "trendingScore"])
def test_list_models_takes_every_sort(api: HfApi, filled: str, sort: str):
    assert filled in [model.id for model in api.list_models(sort=sort, author="org")]
