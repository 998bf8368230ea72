"""Looking at repos and revisions."""

import io
import json

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
    assert info.created_at <= info.last_modified.replace(second=59)
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
