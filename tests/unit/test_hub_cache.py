"""What the client's cache says of revisions: its files may be anybody's, so nothing in them is believed unseen."""

import pytest

from metta_hub.hub.cache import CachedRepo, is_commit

ONE, OTHER = "a" * 40, "ab" * 20


@pytest.fixture
def repo(tmp_path):
    cached = CachedRepo.of(tmp_path, "org/nav")
    for commit in (ONE, OTHER):
        (cached.folder / "snapshots" / commit).mkdir(parents=True)
    return cached


def test_the_folder_is_the_clients(tmp_path):
    from huggingface_hub.file_download import repo_folder_name

    for repo_id in ("org/nav", "nav", "a-b/c.d_e"):
        assert CachedRepo.of(tmp_path, repo_id).folder == tmp_path / repo_folder_name(
            repo_id=repo_id, repo_type="model"
        )


def test_a_revision_is_what_it_was_when_it_was_last_seen(repo):
    for name in ("main", "v1.0", "exp/a", "refs/pr/1", "face"):  # the last one could begin a commit, and does not
        repo.remember(name, ONE)
        assert repo.commit_of(name) == ONE
        repo.remember(name, OTHER)
        assert repo.commit_of(name) == OTHER
    assert repo.known() == dict.fromkeys(["exp/a", "face", "main", "refs/pr/1", "v1.0"], OTHER)
    assert not list(repo.folder.rglob("*.tmp"))


def test_the_client_reads_what_we_note(repo, tmp_path):
    from huggingface_hub import try_to_load_from_cache

    (repo.folder / "snapshots" / ONE / "config.json").write_text("{}")
    repo.remember("main", ONE)
    found = try_to_load_from_cache("org/nav", "config.json", cache_dir=tmp_path, revision="main")
    assert found == str(repo.folder / "snapshots" / ONE / "config.json")


def test_a_commit_is_itself_whole_or_as_far_as_it_is_clear(repo):
    for text in (OTHER, OTHER[:7], "abab"):
        assert repo.commit_of(text) == OTHER
        repo.remember(text, OTHER)
    assert not (repo.folder / "refs").exists(), "an id needs no note"
    assert repo.commit_of("a" * 39) == ONE
    assert repo.commit_of("b" * 40) is None, "nothing of it is cached"
    assert repo.commit_of("aaa") is None, "too short to mean one"
    (repo.folder / "snapshots" / ("abab" + "c" * 36)).mkdir()
    assert repo.commit_of("abab") is None, "two begin like that"


@pytest.mark.parametrize("content", [b"", b"main", b"../../../etc", b"A" * 40, b"\xff" * 40, b"a" * 4_000_000])
def test_a_note_that_is_no_commit_is_none(repo, content):
    (repo.folder / "refs").mkdir()
    (repo.folder / "refs" / "main").write_bytes(content)
    assert repo.commit_of("main") is None
    assert repo.known() == {}


def test_a_note_that_cannot_be_written_is_not_missed(repo):
    (repo.folder / "refs").write_text("a file, where a folder should be")
    repo.remember("main", ONE)
    assert repo.commit_of("main") is None


def test_files_are_described_by_the_blobs_that_they_are(repo):
    snapshot, blobs = repo.folder / "snapshots" / ONE, repo.folder / "blobs"
    blobs.mkdir()
    sha1, sha256 = "1" * 40, "2" * 64
    for blob, name in ((sha1, "README.md"), (sha256, "model.safetensors")):
        (blobs / blob).write_text("content")
        (snapshot / name).symlink_to(blobs / blob)
    (snapshot / "plain.json").write_text("{}")  # where links are not to be had
    tree = repo.tree(ONE)
    assert (tree["README.md"].blob, tree["README.md"].sha256) == (sha1, None)
    assert tree["model.safetensors"].sha256 == sha256
    assert tree["plain.json"].holds(2, "", b"{}")
    assert repo.tree("c" * 40) == {}
    assert is_commit(ONE)
