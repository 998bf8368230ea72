"""huggingface_hub's cache, as far as it says which commit a revision was, and what of a commit is at hand.

Its layout is the one that the client documents: `models--ORG--NAME/refs/REVISION` holds a commit,
`snapshots/COMMIT/…` the files, each a link to a blob that is named after its etag (git's sha1, or the content's
sha256).
"""

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.file_download import repo_folder_name

from metta_hub.errors import HubError, HubUnreachableError, OfflineError
from metta_hub.hub.nouns import RemoteFile, git_blob_id
from metta_hub.hub.refusals import SERVER_FAILED, forbidding, online

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PREFIX = re.compile(r"[0-9a-f]{4,39}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_REF = 64
_SHOWN = 8
_UNFINISHED = ".tmp"


def is_commit(revision: str) -> bool:
    """Whether a revision is a whole commit id, and so means the same forever."""
    return bool(_COMMIT.fullmatch(revision))


@dataclass(frozen=True, slots=True)
class CachedRepo:
    """What the cache holds of one repo; `folder` need not exist."""

    folder: Path

    @classmethod
    def of(cls, cache: Path, repo_id: str) -> "CachedRepo":
        """The folder of a model in a cache."""
        return cls(cache / repo_folder_name(repo_id=repo_id, repo_type="model"))

    def remember(self, revision: str, commit: str) -> None:
        """Note which commit a branch or tag is now, as the client does when it downloads by such a name.

        We download by commit, so nobody else would; a cache that cannot be written to is none of our business here.
        """
        ref = self.folder / "refs" / revision
        if commit.startswith(revision) or self._ref(revision) == commit:  # an id means the same forever
            return
        new = ref.with_name(f"{ref.name}.{secrets.token_hex(4)}{_UNFINISHED}")
        with contextlib.suppress(OSError):
            ref.parent.mkdir(parents=True, exist_ok=True)
            try:
                new.write_text(commit)
                new.replace(ref)
            finally:
                new.unlink(missing_ok=True)

    def commit_of(self, revision: str) -> str | None:
        """The commit that a revision was when it was last seen, if the cache has files of it."""
        found = revision if is_commit(revision) else self._ref(revision) or self._beginning_with(revision)
        return found if found and self._snapshot(found).is_dir() else None

    def known(self) -> dict[str, str]:
        """The commits of all branches and tags that were seen and have files here, by name."""
        refs = self.folder / "refs"
        files = (path for path in sorted(refs.rglob("*")) if path.is_file() and path.suffix != _UNFINISHED)
        names = [path.relative_to(refs).as_posix() for path in files]
        return {name: commit for name in names if (commit := self.commit_of(name)) is not None}

    def tree(self, commit: str) -> dict[str, RemoteFile]:
        """The files at hand of a commit, by path, as the Hub would describe them."""
        return dict(self._files(self._snapshot(commit)))

    def _files(self, snapshot: Path) -> Iterator[tuple[str, RemoteFile]]:
        for path in sorted(snapshot.rglob("*")):
            if path.is_file():
                blob = path.resolve().name
                size = path.stat().st_size
                sha256 = blob if _SHA256.fullmatch(blob) else None
                blob_id = blob if is_commit(blob) or sha256 else git_blob_id(path.read_bytes())
                yield path.relative_to(snapshot).as_posix(), RemoteFile(size, blob_id, sha256)

    def _snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def _ref(self, revision: str) -> str | None:
        try:
            with (self.folder / "refs" / revision).open("rb") as file:
                commit = file.read(_LONGEST_REF).decode("ascii", "replace").strip()
        except OSError:
            return None
        return commit if is_commit(commit) else None

    def _beginning_with(self, prefix: str) -> str | None:
        """The one commit with files here that a short commit id may mean."""
        snapshots = self.folder / "snapshots"
        if not _PREFIX.fullmatch(prefix) or not snapshots.is_dir():
            return None
        found = [path.name for path in snapshots.iterdir() if path.name.startswith(prefix) and is_commit(path.name)]
        return found[0] if len(found) == 1 else None


def resolve_offline(cached: CachedRepo, repo_id: str, revision: str, endpoint: str, *, local: bool) -> str:
    """The commit that a revision was when it was last seen; `local` when not the environment, but the caller asks so.

    Raises:
        OfflineError: the cache has nothing of it; says what it has.
    """
    commit = cached.commit_of(revision)
    if commit is None:
        sentence = f"{repo_id}@{revision} is not in the cache, and {forbidding(local=local)} forbids to fetch it."
        instead = online(local=local)
        known = ", ".join(f"{repo_id}@{name}" for name in list(cached.known())[:_SHOWN])
        raise OfflineError(
            repo_id, endpoint, sentence, hint=f"the cache has {known}; or {instead}" if known else instead
        )
    return commit


def hint_instead(cached: CachedRepo, repo_id: str, revision: str, error: HubError) -> str:
    """The hint for a Hub that does not answer, or fails: the cache may do."""
    down = isinstance(error, HubUnreachableError) or (error.status or 0) >= SERVER_FAILED
    if down and cached.commit_of(revision):
        return f"HF_HUB_OFFLINE=1 before the same command uses what the cache has of {repo_id}@{revision}"
    return error.hint
