"""The connection: every call of huggingface_hub's API that metta_hub makes."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import quote, urlsplit

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    build_hf_headers,
    get_session,
    get_token,
    hf_raise_for_status,
)

from metta_hub._version import __version__
from metta_hub.errors import ConflictError, HubAccessError, HubError, NotFoundError, UsageError
from metta_hub.hub import operations
from metta_hub.hub.nouns import Account, Changes, Committed, RemoteFile, RepoInfo
from metta_hub.hub.partial import remove_partial
from metta_hub.hub.quiet import bars, hide_signatures, no_xet_warning
from metta_hub.hub.refusals import BAD_REQUEST, FORBIDDEN, NOT_FOUND, Published, Question, explained

LIBRARY = "metta_hub"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Hub:
    """A connection to the Hub that the environment names (`HF_ENDPOINT`), with one token.

    Args:
        command: what is being done, for the user agent.
        publishing: whether it is done in order to publish, for errors.
        token: given on the command line; None means the environment's or the stored one.
        cache_dir: huggingface_hub's cache; None means its default.
    """

    def __init__(
        self, command: str, *, publishing: bool = False, token: str | None = None, cache_dir: Path | None = None
    ) -> None:
        self._published = Published.NOT_YET if publishing else Published.NO_MATTER
        self._token = token or get_token()
        self._given = token is not None
        self._cache_dir = cache_dir
        self._agent = {"cmd": command}
        self._tidied: set[str] = set()
        self.endpoint = constants.ENDPOINT
        self._check_environment()
        hide_signatures()
        self._api = HfApi(
            endpoint=self.endpoint,
            token=self._token or False,
            library_name=LIBRARY,
            library_version=__version__,
            user_agent=self._agent,
        )

    def _check_environment(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(
                f"HF_ENDPOINT is '{self.endpoint}', which is no http(s) address.", hint="unset HF_ENDPOINT"
            )
        if self._token and not self._token.isascii():
            sentence = f"{self.token_source} holds characters that no token has."
            raise UsageError(sentence[:1].upper() + sentence[1:], hint="hf auth login")
        if self._token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise UsageError(
                f"{self.endpoint} is plain http, and a token would be sent over it for anyone to read.",
                hint="use https, unset HF_ENDPOINT, or unset HF_TOKEN",
            )

    # --- who ----------------------------------------------------------------------------------------------------

    @property
    def token_source(self) -> str:
        """Where the token came from, in words for error messages."""
        if self._given:
            return "the token given with --token"
        if self._token is None:
            return "no token"
        return "the token in HF_TOKEN" if _token_in_environment() else "the stored login"

    def account(self) -> Account:
        """Ask who the token belongs to.

        Raises:
            HubAccessError: there is no token, or the Hub does not know it.
        """
        if self._token is None:
            sentence = "Publishing needs a token, and there is none."
            raise HubAccessError("", sentence, token_source=self.token_source, hint="hf auth login, or set HF_TOKEN")
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
            raise self._may_not_write(repo_id, account.role) from error

    def _may_not_write(self, repo_id: str, role: str) -> HubAccessError:
        kind = f" (a '{role}' token)" if role else ""
        return HubAccessError(
            repo_id,
            f"{self.token_source[:1].upper()}{self.token_source[1:]}{kind} may read {repo_id} but not write to it.",
            token_source=self.token_source,
            status=FORBIDDEN,
            hint="make a token with write access at "
            f"{self.endpoint}/settings/tokens and run 'hf auth login', or propose with --create-pr",
        )

    # --- look ---------------------------------------------------------------------------------------------------

    def repo(self, repo_id: str) -> RepoInfo | None:
        """A repo, or None when there is none that the token may see."""
        try:
            with self._asking(repo_id):
                info = self._api.model_info(repo_id)
        except NotFoundError:
            return None
        return RepoInfo(info.id, bool(info.private), str(info.sha))

    def resolve(self, repo_id: str, revision: str | None) -> str:
        """The commit that a branch, tag, pull request or (short) commit stands for; None means `main`.

        Raises:
            NotFoundError: no such repo or revision.
        """
        with self._asking(repo_id, revision):
            info = self._api.model_info(repo_id, revision=revision)
        return str(info.sha)

    def branches(self, repo_id: str) -> tuple[frozenset[str], frozenset[str]]:
        """The names of a repo's branches and of its tags."""
        with self._asking(repo_id):
            refs = self._api.list_repo_refs(repo_id)
        return frozenset(branch.name for branch in refs.branches), frozenset(tag.name for tag in refs.tags)

    def tree(self, repo_id: str, commit: str) -> dict[str, RemoteFile]:
        """Every file of a repo at a commit, by path."""
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
        """
        self._tidy(repo_id)
        with self._asking(repo_id, commit), bars(size):
            fetched = hf_hub_download(
                repo_id,
                path,
                revision=commit,
                cache_dir=self._cache_dir,
                force_download=anew,
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
            remove_partial(Path(self._cache_dir or constants.HF_HUB_CACHE), repo_id)

    def read_range(self, repo_id: str, commit: str, path: str, start: int, size: int) -> bytes:
        """Read `size` bytes at `start` of a file, without downloading the rest.

        Raises:
            HubError: the Hub sent something else.
        """
        url = f"{self.endpoint}/{repo_id}/resolve/{quote(commit, safe='')}/{quote(path)}"
        with self._asking(repo_id, commit):
            headers = self._headers() | {
                "Range": f"bytes={start}-{start + size - 1}",
                "Accept-Encoding": "identity",
            }
            with get_session().stream("GET", url, headers=headers, follow_redirects=True) as answer:
                hf_raise_for_status(answer)
                content = _at_most(answer.iter_bytes(), size)
        if len(content) != size:
            raise HubError(repo_id, f"{repo_id}: asked for {size} bytes of {path}, got {len(content)}.")
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
            answer = get_session().post(
                f"{self.endpoint}/api/validate-yaml",
                json={"content": text, "repoType": "model"},
                headers=self._headers(),
            )
            errors = answer.json().get("errors", []) if answer.status_code == BAD_REQUEST else []
            if not errors:
                hf_raise_for_status(answer)
        if errors:
            said = "; ".join(str(error.get("message", error)) for error in errors)
            raise HubError(
                "", f"The Hub would not accept the card's metadata: {said}", hint="metta-hub card PATH shows it"
            )

    def create(self, repo_id: str, *, private: bool | None) -> RepoInfo:
        """Make a model repo; `private=None` leaves its visibility to the Hub's default.

        Raises:
            HubAccessError: not in that namespace.
            ConflictError: there is one of that name.
        """
        with self._asking(repo_id):
            self._api.create_repo(repo_id, private=private)
            info = self._api.model_info(repo_id)
        return RepoInfo(info.id, bool(info.private), str(info.sha))

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
        self, repo_id: str, revision: str | None = None, *, published: Published | None = None
    ) -> AbstractContextManager[None]:
        """Turn what huggingface_hub raises into our errors."""
        published = published or self._published
        return explained(Question(repo_id, revision, self.endpoint, self.token_source, published))


def _token_in_environment() -> bool:
    return bool(os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"))


def _at_most(chunks: Iterator[bytes], size: int) -> bytes:
    """Join chunks, stopping as soon as more than was asked for has arrived."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > size:
            break
    return bytes(content)
