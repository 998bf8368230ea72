"""The connection: every call of huggingface_hub's API that metta_hub makes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    build_hf_headers,
    get_session,
    get_token,
)

from metta_hub import disk
from metta_hub._version import __version__
from metta_hub.errors import ConflictError, HubAccessError, HubError, NotAHubError, NotFoundError, OfflineError
from metta_hub.hub import cache, cards, environment, operations, ranges, rights
from metta_hub.hub.cache import CachedRepo
from metta_hub.hub.nouns import Account, Changes, Committed, RemoteFile, RepoInfo
from metta_hub.hub.partial import remove_partial
from metta_hub.hub.quiet import bars, hide_signatures, no_xet_warning
from metta_hub.hub.refusals import NOT_FOUND, Published, Question, explained, online
from metta_hub.hub.tokens import source_of

LIBRARY = "metta_hub"
#: Branches and tags that an error names.
SHOWN = 8


class Hub:
    """A connection to the Hub that the environment names (`HF_ENDPOINT`), with one token.

    Args:
        command: what is being done, for the user agent.
        publishing: whether it is done in order to publish, for errors; needs a token, and the Hub.
        token: given on the command line; None means the environment's or the stored one.
        cache_dir: huggingface_hub's cache; None means its default.
    """

    def __init__(
        self,
        command: str,
        *,
        publishing: bool = False,
        token: str | None = None,
        cache_dir: Path | None = None,
        local_files_only: bool = False,
    ) -> None:
        self._published = Published.NOT_YET if publishing else Published.NO_MATTER
        self._token = token or get_token()
        self._source = source_of(self._token, given=token is not None)
        self._cache_dir = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self._agent = {"cmd": command}
        self._local = local_files_only
        self._tidied: set[str] = set()
        self.endpoint = constants.ENDPOINT
        environment.check_token(self._token, self._source, self.endpoint)
        if publishing and self.offline:
            sentence = "Publishing needs the Hub, and HF_HUB_OFFLINE forbids to ask it; nothing was published."
            raise OfflineError("", self.endpoint, sentence, hint=online())
        if publishing and self._token is None:
            raise rights.no_token(self._source)
        hide_signatures()
        self._api = HfApi(
            endpoint=self.endpoint,
            token=self._token or False,
            library_name=LIBRARY,
            library_version=__version__,
            user_agent=self._agent,
        )

    # --- who ----------------------------------------------------------------------------------------------------

    @property
    def token_source(self) -> str:
        """Where the token came from, in words for error messages."""
        return self._source.words

    @property
    def offline(self) -> bool:
        """Whether the environment or the caller forbids to ask the Hub: the cache answers, as far as it can."""
        return self._local or bool(constants.HF_HUB_OFFLINE)

    def account(self) -> Account:
        """Ask who the token belongs to.

        Raises:
            HubAccessError: the Hub does not know it.
        """
        with self._asking(""):
            answer = self._api.whoami()
            access = answer.get("auth", {}).get("accessToken") or {}
            return Account(str(answer["name"]), str(access.get("role", "")))

    def require_write(self, repo_id: str, account: Account) -> None:
        """Make sure that the token may write to an existing repo, before any work is done.

        Raises:
            HubAccessError: it may not; names the token's source.
        """
        try:
            with self._asking(repo_id):
                self._api.auth_check(repo_id, write=True)
        except (HubAccessError, NotFoundError) as error:
            raise rights.may_not_write(repo_id, account, self._source, self.endpoint) from error

    def require_role(self, repo_id: str, account: Account) -> None:
        """Make sure that the token may make a repo, as far as its role says.

        Raises:
            HubAccessError: it may only read; names its source.
        """
        if account.role == rights.READ:
            raise rights.may_not_make(repo_id, self._source, self.endpoint)

    # --- look ---------------------------------------------------------------------------------------------------

    def repo(self, repo_id: str) -> RepoInfo | None:
        """A repo, or None when there is none that the token may see."""
        try:
            with self._asking(repo_id):
                info = self._api.model_info(repo_id, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                return RepoInfo(info.id, bool(info.private), _commit(info.sha))
        except NotFoundError:
            return None

    def resolve(self, repo_id: str, revision: str | None) -> str:
        """The commit that a branch, tag, pull request or (short) commit stands for; None means `main`.

        What was found is noted in the cache: `HF_HUB_OFFLINE=1` finds it there.

        Raises:
            NotFoundError: no such repo or revision; says which revisions there are.
            OfflineError: the cache does not have it.
        """
        name, cached = revision or "main", CachedRepo.of(self._cache_dir, repo_id)
        if self.offline:
            return cache.resolve_offline(cached, repo_id, name, self.endpoint, local=self._local)
        try:
            with self._asking(repo_id, name):
                found = self._api.model_info(repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                commit = _commit(found.sha)
        except HubError as error:
            if self._published is Published.NO_MATTER:
                error.hint = cache.hint_instead(cached, repo_id, name, error)
            raise
        except NotFoundError as error:
            if error.what == name:
                error.hint = self._revisions_in_words(repo_id) or error.hint
            raise
        cached.remember(name, commit)
        return commit

    def branches(self, repo_id: str) -> tuple[frozenset[str], frozenset[str]]:
        """The names of a repo's branches and of its tags."""
        with self._asking(repo_id):
            refs = self._api.list_repo_refs(repo_id)
            return frozenset(branch.name for branch in refs.branches), frozenset(tag.name for tag in refs.tags)

    def _revisions_in_words(self, repo_id: str) -> str:
        """The branches and tags of a repo, as far as a line has room for them."""
        try:
            branches, tags = self.branches(repo_id)
        except (HubError, NotFoundError):
            return ""
        names = [*sorted(branches), *sorted(tags)]
        return f"there is {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"

    def tree(self, repo_id: str, commit: str) -> dict[str, RemoteFile]:
        """Every file of a repo at a commit, by path; offline those that are cached."""
        if self.offline:
            return CachedRepo.of(self._cache_dir, repo_id).tree(commit)
        with self._asking(repo_id, commit):
            items = list(self._api.list_repo_tree(repo_id, recursive=True, revision=commit))
        files = (item for item in items if isinstance(item, RepoFile))
        return {item.path: RemoteFile(item.size, item.blob_id, item.lfs.sha256 if item.lfs else None) for item in files}

    def fetch(self, repo_id: str, commit: str, path: str, *, size: int = 0, anew: bool = False) -> Path:
        """Download one file into the cache and say where it lies; a cached one costs no request, unless `anew`.

        Args:
            repo_id: the repo.
            commit: where the file is.
            path: its path in the repo.
            size: its bytes, as far as known; a long download shows a bar.
            anew: download it even if it is cached.

        Raises:
            NotFoundError: no such file at that commit.
            OfflineError: it is not cached, or should come anew.
            FileError: the cache has no room for it, or cannot be written to.
        """
        if anew and self.offline:
            sentence = f"{path} of {repo_id} is to be read from the Hub itself, and HF_HUB_OFFLINE forbids to ask it."
            hint = f"'metta-hub verify FILE' checks a pulled pair; or {online()}"
            raise OfflineError(repo_id, self.endpoint, sentence, hint=hint)
        self._tidy(repo_id)
        what = f"{path} of {repo_id}@{commit[:7]}"
        saving = disk.writing(self._cache_dir, size, what=what, hint="--cache-dir, or HF_HOME, names another cache")
        with self._asking(repo_id, commit, path=path), bars(size), saving:
            fetched = hf_hub_download(
                repo_id,
                path,
                revision=commit,
                cache_dir=self._cache_dir,
                force_download=anew,
                local_files_only=self._local,
                endpoint=self.endpoint,
                token=self._token or False,
                library_name=LIBRARY,
                library_version=__version__,
                user_agent=self._agent,
            )
        return Path(fetched)

    def _tidy(self, repo_id: str) -> None:
        """Once for every repo, remove what killed downloads of it left in the cache."""
        if repo_id not in self._tidied:
            self._tidied.add(repo_id)
            remove_partial(self._cache_dir, repo_id)

    def read_range(self, repo_id: str, commit: str, path: str, start: int, size: int) -> bytes:
        """Read `size` bytes at `start` of a file, without downloading the rest.

        Raises:
            HubError: the Hub sent something else.
        """
        if self.offline:
            with self.fetch(repo_id, commit, path).open("rb") as file:
                file.seek(start)
                return file.read(size)
        url = f"{self.endpoint}/{repo_id}/resolve/{quote(commit, safe='')}/{quote(path)}"
        with self._asking(repo_id, commit, path=path):
            content = ranges.read(url, self._headers(), start, size)
        if len(content) != size:
            raise NotAHubError(repo_id, self.endpoint, f"Asked for {size} bytes of {path}, got {len(content)}.")
        return content

    def _headers(self) -> dict[str, str]:
        return build_hf_headers(
            token=self._token or False,
            library_name=LIBRARY,
            library_version=__version__,
            user_agent=self._agent,
        )

    # --- publish ------------------------------------------------------------------------------------------------

    def check_card(self, text: str) -> None:
        """Have the Hub check a card's metadata, before anything is made for it.

        Raises:
            HubError: it would not be accepted; says why.
        """
        with self._asking(""):
            cards.check(text, self.endpoint, self._headers())

    def create(self, repo_id: str, *, private: bool | None) -> RepoInfo:
        """Make a model repo; `private=None` leaves its visibility to the Hub's default.

        Raises:
            HubAccessError: not in that namespace.
            ConflictError: there is one of that name.
        """
        try:
            with self._asking(repo_id):
                self._api.create_repo(repo_id, private=private)
                info = self._api.model_info(repo_id)
                return RepoInfo(info.id, bool(info.private), _commit(info.sha))
        except HubAccessError as error:
            error.hint = f"a name without '/' is a repo of your own; or {error.hint}"
            raise

    def create_branch(self, repo_id: str, branch: str, commit: str) -> None:
        """Make a branch at a commit, unless somebody was faster."""
        with self._asking(repo_id, commit):
            self._api.create_branch(repo_id, branch=branch, revision=commit, exist_ok=True)

    def tag(self, repo_id: str, tag: str, commit: str, message: str) -> None:
        """Make a tag at a commit, unless it stands there already.

        Raises:
            ConflictError: there is one of that name, at another commit.
        """
        try:
            with self._asking(repo_id, commit, published=Published.NO_MATTER):
                self._api.create_tag(repo_id, tag=tag, revision=commit, tag_message=message)
        except ConflictError:
            with self._asking(repo_id, tag, published=Published.NO_MATTER):
                there = self._api.model_info(repo_id, revision=tag).sha
            if there != commit:
                raise

    def commit(
        self,
        repo_id: str,
        changes: Changes,
        *,
        parent: str,
        revision: str,
        message: str,
        description: str,
        create_pr: bool,
        check_sources: Callable[[], None],
    ) -> Committed:
        """Publish changes as one commit on top of `parent`, all or nothing.

        Args:
            repo_id: the repo; it exists.
            changes: what to do; not empty.
            parent: the commit that the changes were planned against.
            revision: the branch.
            message: the commit's title.
            description: the rest of its message.
            create_pr: open a pull request instead of moving the branch.
            check_sources: called when the bytes are uploaded, or could not be, and before anything is published;
                raises to stop.

        Raises:
            ParentMovedError: the branch moved since `parent`.
            HubError: the Hub refused; nothing was published.
        """
        with ExitStack() as opened, no_xet_warning(), bars(sum(upload.size for upload in changes.uploads)):
            try:
                with self._asking(repo_id, revision):
                    open_files = bool(changes.uploads) and not self._has_xet(repo_id, revision)
                    additions = operations.additions(changes.uploads, opened if open_files else None)
                    self._api.preupload_lfs_files(
                        repo_id, additions, revision=revision, create_pr=create_pr, free_memory=False
                    )
            except Exception:
                check_sources()  # a file that changed is why it could not be sent
                raise
            check_sources()
            with self._asking(repo_id, revision, published=Published.MAYBE):
                info = self._api.create_commit(
                    repo_id,
                    [*additions, *operations.others(changes, parent)],
                    commit_message=message,
                    commit_description=description,
                    revision=revision,
                    create_pr=create_pr,
                    parent_commit=parent,
                )
        return Committed(info.oid, str(info.commit_url), info.pr_url)

    def _has_xet(self, repo_id: str, revision: str) -> bool:
        """Ask the Hub for its xet route: the client cannot be told that there is none, it would fail instead."""
        url = f"{self.endpoint}/api/models/{repo_id}/xet-write-token/{quote(revision, safe='')}"
        answer = get_session().get(url, headers=self._headers())
        return bool(answer.status_code != NOT_FOUND)

    def _asking(
        self, repo_id: str, revision: str | None = None, *, published: Published | None = None, path: str = ""
    ) -> AbstractContextManager[None]:
        """Turn what huggingface_hub raises into our errors."""
        published = published or self._published
        return explained(Question(repo_id, revision, self.endpoint, self._source, published, path, self._local))


def _commit(sha: object) -> str:
    """A commit as the Hub names it.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(sha, str) or not cache.is_commit(sha):
        raise TypeError("it names no commit")
    return sha
