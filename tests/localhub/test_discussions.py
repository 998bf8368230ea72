"""Discussions and pull requests."""

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError


def test_discussion(api: HfApi, other_user: HfApi, repo: str):
    made = other_user.create_discussion(repo, title="Hello", description="World")
    assert (made.num, made.status, made.is_pull_request, made.author) == (1, "open", False, "other")
    assert [event.content for event in made.events] == ["World"]
    comment = api.comment_discussion(repo, 1, "Answer")
    assert comment.content == "Answer"
    edited = api.edit_discussion_comment(repo, 1, comment.id, "Better answer")
    assert (edited.content, edited.edited) == ("Better answer", True)
    with pytest.raises(HfHubHTTPError):
        other_user.edit_discussion_comment(repo, 1, comment.id, "not mine")
    with pytest.warns(UserWarning, match="irreversible"):
        assert api.hide_discussion_comment(repo, 1, comment.id).hidden
    assert api.rename_discussion(repo, 1, "Other title").new_title == "Other title"
    assert api.change_discussion_status(repo, 1, "closed", comment="done").new_status == "closed"
    details = api.get_discussion_details(repo, 1)
    assert (details.title, details.status) == ("Other title", "closed")
    assert [event.type for event in details.events] == [
        "comment", "comment", "title-change", "status-change", "comment",
    ]  # fmt: skip


def test_list_is_newest_first_and_filtered(api: HfApi, other_user: HfApi, repo: str):
    api.create_discussion(repo, title="a")
    other_user.create_pull_request(repo, title="b")
    api.create_discussion(repo, title="c")
    api.change_discussion_status(repo, 1, "closed")

    def titles(**query) -> list[str]:
        return [item.title for item in api.get_repo_discussions(repo, **query)]

    assert titles() == ["c", "b", "a"]
    assert titles(discussion_type="pull_request") == ["b"]
    assert titles(discussion_status="closed") == ["a"]
    assert titles(discussion_status="open") == ["c", "b"]
    assert titles(author="other") == ["b"]


def test_pages(api: HfApi, server, repo: str, monkeypatch):
    monkeypatch.setattr(server.hub.limits, "detailed_page", 2)
    for title in "abcde":
        api.create_discussion(repo, title=title)
    assert "".join(item.title for item in api.get_repo_discussions(repo)) == "edcba"


def test_pull_request_commit_and_merge(api: HfApi, repo: str):
    api.create_commit(repo, [CommitOperationAdd(name, b"1\n") for name in ("a", "b", "c")], commit_message="start")
    pull = api.create_pull_request(repo, title="Improve")
    assert (pull.status, pull.git_reference, pull.target_branch) == ("draft", "refs/pr/1", "refs/heads/main")
    changes = [CommitOperationAdd("a", b"2\n"), CommitOperationAdd("new", b"n"), CommitOperationDelete("b")]
    api.create_commit(repo, changes, commit_message="change", revision="refs/pr/1")
    api.upload_file(path_or_fileobj=b"main went on", path_in_repo="c", repo_id=repo)
    details = api.get_discussion_details(repo, 1)
    assert details.conflicting_files == []
    assert "-1" in details.diff
    assert "+2" in details.diff
    api.merge_pull_request(repo, 1, comment="thanks")
    details = api.get_discussion_details(repo, 1)
    assert details.status == "merged"
    assert details.merge_commit_oid == api.model_info(repo).sha
    assert api.list_repo_files(repo) == [".gitattributes", "a", "c", "new"]
    for again in (lambda: api.merge_pull_request(repo, 1), lambda: api.change_discussion_status(repo, 1, "open")):
        with pytest.raises(BadRequestError):
            again()


def test_conflicts_are_named_and_not_merged(api: HfApi, repo: str):
    pull = api.create_commit(repo, [CommitOperationAdd("a", b"1")], commit_message="x", create_pr=True)
    api.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id=repo)
    assert api.get_discussion_details(repo, pull.pr_num).conflicting_files == ["a"]
    with pytest.raises(HfHubHTTPError, match="Conflicts") as caught:
        api.merge_pull_request(repo, pull.pr_num)
    assert caught.value.response.status_code == 409


def test_who_may_close_and_merge(api: HfApi, other_user: HfApi, repo: str):
    api.create_discussion(repo, title="mine")
    pull = other_user.create_commit(repo, [CommitOperationAdd("a", b"1")], commit_message="x", create_pr=True)
    for call in (
        lambda: other_user.change_discussion_status(repo, 1, "closed"),
        lambda: other_user.rename_discussion(repo, 1, "ha"),
        lambda: other_user.merge_pull_request(repo, pull.pr_num),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == 403
    other_user.change_discussion_status(repo, pull.pr_num, "closed")


def test_missing_discussion(ask, repo: str):
    assert ask("GET", f"/api/models/{repo}/discussions/7").status == 404
    assert ask("POST", f"/api/models/{repo}/discussions/7/comment", {"comment": "x"}).status == 404


def test_a_merged_pull_request_still_shows_its_diff(api: HfApi, repo: str):
    pull = api.create_commit(repo, [CommitOperationAdd("a", b"one\n")], commit_message="x", create_pr=True)
    api.upload_file(path_or_fileobj=b"main went on", path_in_repo="b", repo_id=repo)
    before = api.get_discussion_details(repo, pull.pr_num).diff
    assert "+one" in before
    api.merge_pull_request(repo, pull.pr_num)
    assert api.get_discussion_details(repo, pull.pr_num).diff == before


def test_merging_what_the_branch_has_already_makes_no_commit(api: HfApi, repo: str):
    api.create_pull_request(repo, title="nothing new")
    head = api.model_info(repo).sha
    api.merge_pull_request(repo, 1)
    assert api.model_info(repo).sha == head
    assert api.get_discussion_details(repo, 1).status == "merged"


def test_discussions_have_the_shape_that_clients_read(ask, api: HfApi, repo: str):
    """Section 7, key by key."""
    pull = api.create_commit(repo, [CommitOperationAdd("a", b"1")], commit_message="t\n\nd", create_pr=True)
    api.comment_discussion(repo, 1, "c")
    api.change_discussion_status(repo, 1, "closed")
    api.change_discussion_status(repo, 1, "open")
    api.rename_discussion(repo, 1, "t2")
    listed = ask("GET", f"/api/models/{repo}/discussions?p=0&type=pull_request&status=open").json
    assert (listed["count"], listed["start"]) == (1, 0)
    short = {"num", "title", "status", "author", "isPullRequest", "createdAt", "repo"}
    assert set(listed["discussions"][0]) == short
    assert listed["discussions"][0]["repo"] == {"name": repo, "type": "model"}
    details = ask("GET", f"/api/models/{repo}/discussions/1?diff=1").json
    assert set(details) == {*short, "events", "diff", "changes", "filesWithConflicts"}
    assert details["changes"] == {"base": "refs/heads/main"}
    for made in details["events"]:
        assert set(made) == {"id", "type", "createdAt", "author", "data"}
        assert made["author"] == {"name": "me"}
    data = {made["type"]: made["data"] for made in details["events"]}
    assert set(data["comment"]) == {"edited", "hidden", "latest", "history"}
    assert {"raw", "html", "updatedAt"} <= set(data["comment"]["latest"])
    assert data["status-change"] == {"status": "open"}
    assert data["commit"] == {"subject": "t", "oid": pull.oid}
    assert data["title-change"] == {"from": "t", "to": "t2"}


def test_a_pull_request_of_a_pinned_parent(api: HfApi, repo: str):
    first = api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo)
    with pytest.raises(HfHubHTTPError, match="branch was updated since") as caught:
        api.create_commit(
            repo, [CommitOperationAdd("b", b"1")], commit_message="x", create_pr=True, parent_commit=first
        )
    assert caught.value.response.status_code == 412
    assert list(api.get_repo_discussions(repo)) == []


def test_a_pull_request_against_another_branch(api: HfApi, repo: str):
    api.create_branch(repo, branch="exp")
    pull = api.create_commit(repo, [CommitOperationAdd("b", b"1")], commit_message="x", create_pr=True, revision="exp")
    assert api.get_discussion_details(repo, pull.pr_num).target_branch == "refs/heads/exp"
    api.merge_pull_request(repo, pull.pr_num)
    assert "b" in api.list_repo_files(repo, revision="exp")
    assert "b" not in api.list_repo_files(repo)


def test_upload_folder_as_a_pull_request(api: HfApi, other_user: HfApi, repo: str, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "w.bin").write_bytes(b"w")
    done = other_user.upload_folder(repo_id=repo, folder_path=tmp_path, create_pr=True)
    assert done.pr_url == f"{api.endpoint}/{repo}/discussions/1"
    assert {"a.txt", "w.bin"} <= set(api.list_repo_files(repo, revision="refs/pr/1"))
