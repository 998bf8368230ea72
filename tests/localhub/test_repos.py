"""Identity, and the life of a repo."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from localhub.helpers import left_unfinished
from metta_hub.localhub import Server


def test_whoami_names_user_role_and_namespaces(api: HfApi, reader: HfApi, other_user: HfApi, repo: str):
    me = api.whoami()
    assert (me["type"], me["name"]) == ("user", "me")
    assert me["auth"]["accessToken"]["role"] == "write"
    assert "org" in [org["name"] for org in me["orgs"]]
    assert reader.whoami()["auth"]["accessToken"]["role"] == "read"
    assert other_user.whoami()["orgs"] == []


def test_bad_token_is_401_everywhere(server: Server, repo: str):
    api = HfApi(endpoint=server.endpoint, token="hf_" + "x" * 36)
    for call in (api.whoami, lambda: api.model_info(repo), api.list_models().__next__):
        with pytest.raises(HfHubHTTPError, match=r"(?i)invalid user token") as caught:
            call()
        assert caught.value.response.status_code == 401


def test_whoami_without_token_is_401(ask):
    answer = ask("GET", "/api/whoami-v2", token=None)
    assert answer.status == 401
    assert answer.json["error"]


def test_new_repo_has_one_commit_with_gitattributes(api: HfApi):
    url = api.create_repo("org/fresh")
    assert isinstance(url, RepoUrl)
    assert (url.namespace, url.repo_name, url.repo_type) == ("org", "fresh", "model")
    commits = api.list_repo_commits("org/fresh")
    assert [commit.title for commit in commits] == ["initial commit"]
    assert commits[0].authors == ["me"]
    assert api.list_repo_files("org/fresh") == [".gitattributes"]


def test_repo_without_namespace_is_mine(api: HfApi):
    assert api.create_repo("plain").repo_id == "me/plain"


def test_creating_twice_is_409_with_url(api: HfApi, repo: str):
    with pytest.raises(HfHubHTTPError, match="already created") as caught:
        api.create_repo(repo)
    assert caught.value.response.status_code == 409
    assert api.create_repo(repo, exist_ok=True).repo_id == repo


def test_older_clients_say_private(ask, api: HfApi):
    assert ask("POST", "/api/repos/create", {"name": "old", "organization": "org", "private": True}).status == 200
    assert api.model_info("org/old").private is True


def test_ids_are_found_in_any_case(api: HfApi):
    api.create_repo("Org/MixedCase")
    assert api.model_info("oRG/mixedcase").id == "Org/MixedCase"
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo("org/MIXEDCASE")


@pytest.mark.parametrize("name", ["..", ".git", "a..b", "a--b", "-a", "a.", "a.git", "a b", "ä", "", "x" * 97])
def test_impossible_names_are_refused(ask, name: str):
    assert ask("POST", "/api/repos/create", {"name": name, "organization": "org"}).status == 400


def test_reserved_namespaces_are_refused(ask):
    assert ask("POST", "/api/repos/create", {"name": "models", "organization": "api"}).status == 400


def test_delete_repo(api: HfApi, repo: str, server: Server):
    api.delete_repo(repo)
    assert not api.repo_exists(repo)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(repo)
    api.delete_repo(repo, missing_ok=True)
    assert left_unfinished(server.root) == []


def test_move_repo(api: HfApi, repo: str):
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo)
    api.create_repo("org/taken")
    with pytest.raises(HfHubHTTPError, match="A model repository called org/taken already exists"):
        api.move_repo(repo, "org/taken")
    api.move_repo(repo, "elsewhere/Moved")
    assert not api.repo_exists(repo)
    info = api.model_info("elsewhere/moved")
    assert info.id == "elsewhere/Moved"
    assert {sibling.rfilename for sibling in info.siblings} == {".gitattributes", "a.txt"}


def test_settings_come_back_in_info(api: HfApi, repo: str):
    api.update_repo_settings(repo, visibility="private", gated="auto")
    info = api.model_info(repo)
    assert (info.private, info.gated) == (True, "auto")
    api.update_repo_settings(repo, visibility="public", gated=False)
    info = api.model_info(repo)
    assert (info.private, info.gated) == (False, False)


def test_private_repo_is_invisible_to_others(api: HfApi, other_user: HfApi, anonymous: HfApi, ask):
    api.create_repo("org/secret", private=True)
    assert api.model_info("org/secret").private is True
    for stranger in (other_user, anonymous):
        with pytest.raises(RepositoryNotFoundError):
            stranger.model_info("org/secret")
        with pytest.raises(RepositoryNotFoundError):
            stranger.auth_check("org/secret")
        assert "org/secret" not in [model.id for model in stranger.list_models()]
    assert "org/secret" in [model.id for model in api.list_models()]
    # Known users learn no more about a private repo than about none.
    known = ask("GET", "/api/models/org/secret", token=other_user.token)
    assert known.status == ask("GET", "/api/models/org/nothing", token=other_user.token).status == 404
    assert ask("GET", "/api/models/org/secret", token=None).status == 401
    assert ask("GET", "/api/models/org/nothing", token=None).status == 401


def test_own_private_repo_of_a_later_user(other_user: HfApi, api: HfApi):
    other_user.create_repo("other/mine", private=True)
    assert other_user.model_info("other/mine").private is True
    assert api.model_info("other/mine").private is True  # the first user may write, so read, everywhere


def test_later_users_write_to_their_own_namespace_only(other_user: HfApi, repo: str):
    with pytest.raises(HfHubHTTPError, match="rights to create") as caught:
        other_user.create_repo("org/not-yours")
    assert caught.value.response.status_code == 403
    for call in (
        lambda: other_user.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo),
        lambda: other_user.delete_repo(repo),
        lambda: other_user.move_repo(repo, "other/stolen"),
        lambda: other_user.update_repo_settings(repo, visibility="private"),
        lambda: other_user.create_tag(repo, tag="x"),
        lambda: other_user.auth_check(repo, write=True),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == 403
    assert other_user.model_info(repo).id == repo


def test_read_token_gets_403_on_writes(reader: HfApi, api: HfApi, repo: str):
    head = api.model_info(repo).sha
    for call in (
        lambda: reader.create_repo("org/by-reader"),
        lambda: reader.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo),
        lambda: reader.create_tag(repo, tag="x"),
        lambda: reader.create_branch(repo, branch="x"),
        lambda: reader.delete_repo(repo),
        lambda: reader.update_repo_settings(repo, visibility="private"),
        lambda: reader.super_squash_history(repo),
        lambda: reader.create_discussion(repo, title="x"),
        lambda: reader.auth_check(repo, write=True),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == 403
    reader.auth_check(repo)
    assert api.model_info(repo).sha == head


def test_anonymous_writes_are_401(anonymous: HfApi, repo: str):
    for call in (
        lambda: anonymous.create_repo("org/by-nobody"),
        lambda: anonymous.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo),
        lambda: anonymous.delete_repo(repo),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        assert caught.value.response.status_code == 401


def test_gated_repo_keeps_its_files(api: HfApi, other_user: HfApi, anonymous: HfApi, repo: str, tmp_path):
    api.update_repo_settings(repo, gated="manual")
    assert other_user.model_info(repo).gated == "manual"
    for stranger in (other_user, anonymous):
        with pytest.raises(GatedRepoError):
            stranger.auth_check(repo)
        with pytest.raises(GatedRepoError):
            stranger.hf_hub_download(repo, ".gitattributes", cache_dir=tmp_path)
    api.auth_check(repo)


def test_ids_without_namespace_answer_repo_not_found(api: HfApi, ask):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("gpt2")
    for path in ("/api/models/gpt2", "/api/models/gpt2/tree/main", "/gpt2/resolve/main/config.json"):
        assert ask("GET", path).headers["X-Error-Code"] == "RepoNotFound"


def test_only_models_are_served(api: HfApi, ask):
    with pytest.raises(HfHubHTTPError, match="models only") as caught:
        api.create_repo("org/data", repo_type="dataset")
    assert caught.value.response.status_code == 404
    assert not api.repo_exists("org/data", repo_type="dataset")
    assert not api.repo_exists("org/space", repo_type="space")
    assert ask("GET", "/api/datasets").status == 404


def test_unknown_endpoints_are_json_404(ask, repo: str):
    for path in (
        "/api/agent-harnesses",
        f"/api/models/{repo}/xet-write-token/main",
        f"/api/models/{repo}/xet-read-token/main",
        f"/api/models/{repo}/no-such-thing",
        f"/{repo}.git/info/lfs/locks/verify",
    ):
        answer = ask("GET", path)
        assert answer.status == 404, path
        assert answer.json["error"]
        assert "X-Error-Code" not in answer.headers


def test_every_answer_has_a_request_id(ask, repo: str):
    seen = {ask("GET", path).headers["X-Request-Id"] for path in ("/", "/api/models", "/nothing", f"/{repo}")}
    assert len(seen) == 4


def test_tokens_are_kept_private(server: Server):
    path = server.root / "accounts.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.token.startswith("hf_")
    assert len(server.token) >= 37
    assert server.token.removeprefix("hf_").isalnum()


def test_what_an_upload_left_of_a_deleted_repo_is_in_nobodys_way(api: HfApi, server: Server, repo: str):
    api.delete_repo(repo)
    (server.root / "repos" / repo / "lfs" / "aa").mkdir(parents=True)
    assert not api.repo_exists(repo)
    api.create_repo(repo)
    assert not (server.root / "repos" / repo / "lfs").exists()


def test_whoami_has_the_shape_that_clients_read(ask, repo: str):
    me = ask("GET", "/api/whoami-v2").json
    assert {"type", "id", "name", "fullname", "email", "emailVerified", "isPro", "orgs", "auth"} <= set(me)
    assert (me["type"], me["isPro"]) == ("user", False)
    assert {"name", "fullname", "roleInOrg"} <= set(me["orgs"][0])
    assert me["auth"]["type"] == "access_token"
    assert set(me["auth"]["accessToken"]) == {"displayName", "role"}


def test_create_repo_by_organization_null_own_and_other(ask, other_user: HfApi, server: Server):
    for organization, repo_id in ((None, "other/by-null"), ("other", "other/by-name"), ("Other", "Other/by-case")):
        body = {"name": repo_id.split("/")[1], "organization": organization}
        answer = ask("POST", "/api/repos/create", body, token=other_user.token)
        assert (answer.status, answer.json["name"]) == (200, repo_id)
        assert answer.json["url"] == f"{server.endpoint}/{repo_id}"
    assert ask("POST", "/api/repos/create", {"name": "x", "organization": "org"}, token=other_user.token).status == 403
    assert ask("POST", "/api/repos/create", {"name": "x", "organization": "org"}, token=None).status == 401


def test_exist_ok_in_a_namespace_of_others_finds_the_repo(other_user: HfApi, repo: str):
    """The server says 403, and the client then looks whether the repo is there."""
    assert other_user.create_repo(repo, exist_ok=True).repo_id == repo
    with pytest.raises(HfHubHTTPError):
        other_user.create_repo("org/there-is-none", exist_ok=True)


def test_409_names_the_url_of_the_repo_that_is_there(ask, api: HfApi, server: Server):
    api.create_repo("Org/Upper-Case")
    answer = ask("POST", "/api/repos/create", {"name": "upper-case", "organization": "org"})
    assert (answer.status, answer.json["url"]) == (409, f"{server.endpoint}/Org/Upper-Case")
    assert answer.json["error"] == "You already created this model repo"


def test_visibility_and_private_both_make_a_private_repo(ask, api: HfApi):
    for name, words in (
        ("by-visibility", {"visibility": "private"}),
        ("by-private", {"private": True}),
        ("public-1", {"visibility": "public"}),
        ("public-2", {"private": False}),
        ("public-3", {}),
    ):
        ask("POST", "/api/repos/create", {"name": name, "organization": "org", **words})
        assert api.model_info(f"org/{name}").private is not name.startswith("public")


def test_moving_to_other_letters_of_the_same_id(api: HfApi, repo: str):
    api.move_repo(repo, repo.upper())
    assert api.model_info(repo).id == repo.upper()


def test_moving_what_is_not_there_is_repo_not_found(ask):
    answer = ask("POST", "/api/repos/move", {"fromRepo": "org/there-is-none", "toRepo": "org/x", "type": "model"})
    assert (answer.status, answer.headers["X-Error-Code"]) == (404, "RepoNotFound")


def test_auth_check_and_auth_check_write(api: HfApi, reader: HfApi, other_user: HfApi, ask, repo: str):
    for user, path, status in (
        (api, "auth-check", 200),
        (api, "auth-check/write", 200),
        (reader, "auth-check", 200),
        (reader, "auth-check/write", 403),
        (other_user, "auth-check", 200),
        (other_user, "auth-check/write", 403),
    ):
        assert ask("GET", f"/api/models/{repo}/{path}", token=user.token).status == status
    api.auth_check(repo, write=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/models/gpt2"),
        ("GET", "/api/models/gpt2/revision/main"),
        ("GET", "/api/models/gpt2/tree/main"),
        ("GET", "/api/models/gpt2/refs"),
        ("GET", "/api/models/gpt2/commits/main"),
        ("POST", "/api/models/gpt2/paths-info/main"),
        ("POST", "/api/models/gpt2/preupload/main"),
        ("POST", "/api/models/gpt2/commit/main"),
        ("POST", "/api/models/gpt2/tag/main"),
        ("POST", "/api/models/gpt2/branch/x"),
        ("PUT", "/api/models/gpt2/settings"),
        ("GET", "/api/models/gpt2/auth-check"),
        ("GET", "/api/models/gpt2/discussions"),
        ("GET", "/api/models/gpt2/discussions/1"),
        ("GET", "/gpt2/resolve/main/config.json"),
        ("HEAD", "/gpt2/resolve/main/config.json"),
    ],
)
def test_un_namespaced_ids_are_repo_not_found_everywhere(ask, method: str, path: str):
    assert ask(method, path, {} if method in ("POST", "PUT") else None).headers["X-Error-Code"] == "RepoNotFound"


def test_creating_at_once_is_one_200_and_else_409(ask):
    """The client would try for ever if it read that another operation is in progress."""
    body = {"name": "at-once", "organization": "org"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask("POST", "/api/repos/create", body), range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    assert {answer.json.get("error") for answer in answers} == {None, "You already created this model repo"}
