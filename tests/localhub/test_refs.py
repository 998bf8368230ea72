"""Branches, tags and history."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from metta_hub.localhub import Server


def test_refs_lists_branches_tags_and_pull_requests(api: HfApi, repo: str):
    sha = api.model_info(repo).sha
    api.create_branch(repo, branch="exp/a")
    api.create_tag(repo, tag="v1")
    api.create_tag(repo, tag="v2", tag_message="second")
    pull = api.create_commit(repo, [CommitOperationAdd("a", b"a")], commit_message="a", create_pr=True)
    refs = api.list_repo_refs(repo)
    assert [(b.name, b.ref, b.target_commit) for b in refs.branches] == [
        ("exp/a", "refs/heads/exp/a", sha),
        ("main", "refs/heads/main", sha),
    ]
    # An annotated tag is listed with the commit that it stands for, not with its own id.
    assert [(t.name, t.target_commit) for t in refs.tags] == [("v1", sha), ("v2", sha)]
    assert (refs.converts, refs.pull_requests) == ([], None)
    (found,) = api.list_repo_refs(repo, include_pull_requests=True).pull_requests
    assert (found.ref, found.target_commit) == ("refs/pr/1", pull.oid)


def test_tag_errors(api: HfApi, repo: str):
    api.create_tag(repo, tag="v1")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag(repo, tag="v1")
    assert caught.value.response.status_code == 409
    api.create_tag(repo, tag="v1", exist_ok=True)
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(repo, tag="v2", revision="nope")
    for name in ("with space", "a..b", "-a", "a.lock", "a:b", "../x", "f" * 40, "refs/heads/x"):
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_tag(repo, tag=name)
        assert caught.value.response.status_code == 400


def test_untag(api: HfApi, repo: str):
    api.create_tag(repo, tag="rel/v1")
    api.delete_tag(repo, tag="rel/v1")
    assert api.list_repo_refs(repo).tags == []
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="rel/v1")


def test_tag_of_an_older_revision(api: HfApi, repo: str):
    first = api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo)
    api.create_tag(repo, tag="old", revision=first[:8])
    assert api.list_repo_files(repo, revision="old") == [".gitattributes"]


def test_branch(api: HfApi, repo: str):
    first = api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo)
    api.create_branch(repo, branch="old", revision=first)
    api.create_branch(repo, branch="new")
    assert api.list_repo_files(repo, revision="old") == [".gitattributes"]
    assert api.list_repo_files(repo, revision="new") == [".gitattributes", "a"]
    with pytest.raises(HfHubHTTPError, match="Reference refs/heads/main already exists") as caught:
        api.create_branch(repo, branch="main")
    assert caught.value.response.status_code == 409
    with pytest.raises(RevisionNotFoundError):
        api.create_branch(repo, branch="x", revision="nope")
    api.create_tag(repo, tag="both")
    api.create_branch(repo, branch="both")


def test_branch_inside_a_branch_is_refused(api: HfApi, repo: str):
    api.create_branch(repo, branch="exp")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_branch(repo, branch="exp/a")
    assert caught.value.response.status_code == 409
    api.delete_branch(repo, branch="exp")
    api.create_branch(repo, branch="exp/a")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_branch(repo, branch="exp")
    assert caught.value.response.status_code == 409
    api.delete_branch(repo, branch="exp/a")
    api.create_branch(repo, branch="exp")


def test_unbranch(api: HfApi, repo: str):
    api.create_branch(repo, branch="exp/a")
    api.delete_branch(repo, branch="exp/a")
    with pytest.raises(HfHubHTTPError, match="Cannot delete refs/heads/main") as caught:
        api.delete_branch(repo, branch="main")
    assert caught.value.response.status_code == 403
    api.create_tag(repo, tag="v1")
    for name in ("exp/a", "v1"):
        with pytest.raises(HfHubHTTPError, match="Invalid rev id"):
            api.delete_branch(repo, branch=name)


def test_commits_are_listed_newest_first_in_pages(api: HfApi, server: Server, repo: str, monkeypatch):
    for number in range(5):
        message = {"commit_message": f"commit {number}", "commit_description": "why\n\nand how"}
        api.create_commit(repo, [CommitOperationAdd("a", b"%d" % number)], **message)
    monkeypatch.setattr(server.hub.limits, "detailed_page", 2)
    found = api.list_repo_commits(repo, formatted=True)
    assert [item.title for item in found] == [*(f"commit {n}" for n in (4, 3, 2, 1, 0)), "initial commit"]
    assert found[0].message == "why\n\nand how"
    assert found[0].formatted_title == "commit 4"
    assert found[0].authors == ["me"]
    assert [item.title for item in api.list_repo_commits(repo, revision=found[3].commit_id)] == [
        "commit 1", "commit 0", "initial commit",
    ]  # fmt: skip
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_commits(repo, revision="nope")


def test_super_squash(api: HfApi, repo: str):
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"a{number}", repo_id=repo)
    files = api.list_repo_files(repo)
    api.super_squash_history(repo, commit_message="all in one")
    assert [item.title for item in api.list_repo_commits(repo)] == ["all in one"]
    assert api.list_repo_files(repo) == files
    with pytest.raises(RevisionNotFoundError):
        api.super_squash_history(repo, branch="nope")


def test_head_is_no_name_for_a_branch_or_tag(ask, repo: str):
    """`HEAD` is a revision of every repo."""
    assert ask("POST", f"/api/models/{repo}/branch/HEAD", {}).status == 400
    assert ask("POST", f"/api/models/{repo}/tag/main", {"tag": "HEAD"}).status == 400


def test_commits_take_a_limit_and_link_to_the_next_page(ask, api: HfApi, server: Server, repo: str):
    for number in range(4):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="a", repo_id=repo, commit_message=f"c{number}")
    answer = ask("GET", f"/api/models/{repo}/commits/main?limit=2&expand[]=formatted")
    assert [item["title"] for item in answer.json] == ["c3", "c2"]
    assert answer.json[0]["formatted"] == {"title": "c3", "message": ""}
    link = answer.headers["Link"]
    assert link.startswith(f"<{server.endpoint}/api/models/{repo}/commits/")
    assert link.endswith('>; rel="next"')
    following = ask("GET", link[1 : link.index(">")])
    assert [item["title"] for item in following.json] == ["c1", "c0"]
    last = ask("GET", following.headers["Link"].partition(">")[0][1:])
    assert [item["title"] for item in last.json] == ["initial commit"]
    assert "Link" not in last.headers


def test_pages_of_one_history_fit_together_while_the_branch_moves(ask, api: HfApi, repo: str):
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="a", repo_id=repo, commit_message=f"c{number}")
    answer = ask("GET", f"/api/models/{repo}/commits/main?limit=2")
    api.upload_file(path_or_fileobj=b"new", path_in_repo="a", repo_id=repo)
    following = ask("GET", answer.headers["Link"].partition(">")[0][1:])
    assert [item["title"] for item in following.json] == ["c0", "initial commit"]


def test_untag_of_a_missing_tag_is_revision_not_found(ask, repo: str):
    answer = ask("DELETE", f"/api/models/{repo}/tag/nope")
    assert (answer.status, answer.headers["X-Error-Code"]) == (404, "RevisionNotFound")


def test_unbranch_of_a_missing_branch_or_a_tag_is_invalid_rev_id(ask, api: HfApi, repo: str):
    api.create_tag(repo, tag="v1")
    for name in ("nope", "v1"):
        answer = ask("DELETE", f"/api/models/{repo}/branch/{name}")
        assert answer.status == 404
        assert "Invalid rev id" in answer.json["error"]


def test_super_squash_leaves_one_commit_on_that_branch_alone(api: HfApi, repo: str):
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo)
    api.create_branch(repo, branch="exp/a")
    api.create_tag(repo, tag="before")
    api.super_squash_history(repo, branch="exp/a", commit_message="one")
    assert [item.title for item in api.list_repo_commits(repo, revision="exp/a")] == ["one"]
    assert len(api.list_repo_commits(repo)) == len(api.list_repo_commits(repo, revision="before")) == 2


def test_history_of_a_pull_request_is_that_references(api: HfApi, repo: str):
    api.create_commit(repo, [CommitOperationAdd("a", b"a")], commit_message="propose", create_pr=True)
    titles = [item.title for item in api.list_repo_commits(repo, revision="refs/pr/1")]
    assert titles == ["propose", "initial commit"]
