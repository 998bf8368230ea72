"""The store behind the embedded Hub: accounts and repos in one folder."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from metta_hub.localhub.accounts import Accounts, Caller, Role
from metta_hub.localhub.disk import locked, sync_folder
from metta_hub.localhub.errors import (
    BadRequestError,
    NotAllowedError,
    NotLoggedInError,
    RepoNotFoundError,
    TakenError,
)
from metta_hub.localhub.limits import Limits
from metta_hub.localhub.names import check_repo_id
from metta_hub.localhub.pulls import remove_lost_pull_requests
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.scratch import Scratch


class LocalHub:
    """A Hub in a folder; a restart loses nothing.

        ROOT/accounts.json               users and tokens, mode 0600
        ROOT/repos/NAMESPACE/NAME/       in lower case, since ids are looked up without regard to case
            repo.json  git/  lfs/  discussions.json  lock
        ROOT/tmp/                        unfinished things, a folder for each process that serves this store

    Args:
        root: the folder; made, with a first user and a token, when it is not there.
        user: the name of the first user; None takes the one that is there, or `me`.
        limits: bounds on what is taken and sent.

    Attributes:
        root: the folder.
        limits: the bounds; may be changed at any time.
        scratch: where unfinished things are.
        accounts: users and tokens.

    Raises:
        ConflictError: the folder belongs to another user.
    """

    def __init__(self, root: Path, *, user: str | None = None, limits: Limits | None = None) -> None:
        self.root = Path(root)
        self.limits = limits or Limits()
        self._repos = self.root / "repos"
        # Private repos lie in here in the clear: a new root is for its owner's eyes.
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._repos.mkdir(exist_ok=True)
        self.scratch = Scratch(self.root / "tmp")
        self.accounts = Accounts(self.root / "accounts.json", self.scratch, first_user=user)
        for repo in self.repos():
            self._tidy(repo)

    @property
    def user(self) -> str:
        """The first user, who may write to any namespace."""
        return self.accounts.first_user

    @property
    def token(self) -> str:
        """The first user's write token."""
        return self.accounts.token_of(self.user)

    def add_user(self, name: str) -> str:
        """Add a user, who may write to the namespace of their own name only, or find them; return their write token."""
        return self.accounts.add_user(name)

    def add_token(self, user: str, *, role: Role = "read") -> str:
        """Add a token for a known user."""
        return self.accounts.add_token(user, role=role)

    def repo(self, namespace: str, name: str) -> Repo:
        """The repo of this id, in any case.

        Raises:
            RepoNotFoundError: there is none.
        """
        return Repo(self._folder(namespace, name), self.scratch)

    def repos(self) -> Iterator[Repo]:
        """All repos, private ones too, by id."""
        for path in sorted(self._repos.glob("*/*/repo.json")):
            try:
                yield Repo(path.parent, self.scratch)
            except RepoNotFoundError:  # deleted since the listing
                continue

    def create_repo(self, caller: Caller, namespace: str, name: str, *, private: bool) -> Repo:
        """Make a repo with its first commit.

        Raises:
            NotAllowedError: the namespace is not the caller's.
            TakenError: there is one of this id.
        """
        self._check_owner(caller, namespace, "create")
        check_repo_id(namespace, name)
        target = self._folder(namespace, name)
        fresh = self.scratch.name()
        with locked(self.root / "lock"):
            if self._is_taken(target):
                raise TakenError("You already created this model repo")
            try:
                Repo.create(fresh, self.scratch, f"{namespace}/{name}", private=private, author=caller.name)
                self._rename(fresh, target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        return Repo(target, self.scratch)

    def delete_repo(self, repo: Repo) -> None:
        """Remove a repo with all that belongs to it."""
        doomed = self.scratch.name()
        with locked(self.root / "lock"), repo.lock():
            self._rename(repo.folder, doomed)
        shutil.rmtree(doomed)

    def move_repo(self, caller: Caller, repo: Repo, namespace: str, name: str) -> Repo:
        """Give a repo another id.

        Raises:
            NotAllowedError: the new namespace is not the caller's.
            TakenError: there is one of this id.
        """
        self._check_owner(caller, namespace, "move to")
        check_repo_id(namespace, name)
        target = self._folder(namespace, name)
        with locked(self.root / "lock"):
            if target != repo.folder:
                if self._is_taken(target):
                    raise TakenError(f"A model repository called {namespace}/{name} already exists")
                with repo.lock():
                    self._rename(repo.folder, target)
            moved = Repo(target, self.scratch)
            moved.rename(f"{namespace}/{name}")
        return moved

    def authenticate(self, token: str) -> Caller:
        """Who a token belongs to.

        Raises:
            NotLoggedInError: nobody.
        """
        caller = self.accounts.caller(token)
        if caller is None:
            raise NotLoggedInError("Invalid credentials in Authorization header: invalid user token")
        return caller

    def _tidy(self, repo: Repo) -> None:
        """Remove what crashed writers left in a repo; one that somebody writes to right now can wait."""
        with contextlib.suppress(BlockingIOError, RepoNotFoundError), repo.lock(wait=False):
            remove_lost_pull_requests(repo)
            repo.lfs.remove_expired(self.limits.link_seconds)

    def _folder(self, namespace: str, name: str) -> Path:
        try:
            check_repo_id(namespace, name)
        except BadRequestError:
            raise RepoNotFoundError("Repository not found") from None
        return self._repos / namespace.lower() / name.lower()

    def _is_taken(self, target: Path) -> bool:
        """Whether a repo is at `target`; what an upload to a repo deleted meanwhile left there is cleared away."""
        if target.exists() and not (target / "repo.json").exists():
            remains = self.scratch.name()
            self._rename(target, remains)
            shutil.rmtree(remains)
        return target.exists()

    @staticmethod
    def _check_owner(caller: Caller, namespace: str, verb: str) -> None:
        if not caller.owns(namespace):
            raise NotAllowedError(f'You don\'t have the rights to {verb} a model under the namespace "{namespace}"')

    @staticmethod
    def _rename(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        sync_folder(target.parent)
        sync_folder(source.parent)
