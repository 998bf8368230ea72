"""Making a commit visible: the one place where branches and pull requests move by an HTTP commit."""

from dataclasses import dataclass

from dulwich.objects import ObjectID
from dulwich.refs import Ref

from metta_hub.localhub.accounts import Caller
from metta_hub.localhub.changes import Changes
from metta_hub.localhub.discussions import Discussions
from metta_hub.localhub.errors import NotAllowedError, RefusalError, RevisionNotFoundError
from metta_hub.localhub.gitrepo import HEADS, PULLS, GitRepo
from metta_hub.localhub.gitwriter import GitWriter, encoded, person
from metta_hub.localhub.pulls import open_pull_request
from metta_hub.localhub.repo import Repo


@dataclass(frozen=True, slots=True)
class Published:
    """What came of a commit.

    Attributes:
        sha: the commit; the head as it was when nothing changed.
        pull_request: the number of the pull request that was opened, if one was.
    """

    sha: str
    pull_request: int | None = None


def target(git: GitRepo, revision: str) -> Ref:
    """The reference that a commit to `revision` moves: a branch or a pull request, never a tag or a sha.

    Raises:
        RevisionNotFoundError: it names no such thing.
    """
    name = revision if revision.startswith((HEADS, PULLS)) else HEADS + revision
    if git.reference(name) is None:
        raise RevisionNotFoundError(f"Invalid rev id: {revision}")
    return Ref(name.encode())


def check_may_commit(caller: Caller, repo: Repo, reference: Ref) -> None:
    """Refuse callers who may write neither to the repo nor to this pull request of theirs.

    Raises:
        NotAllowedError: it is neither.
    """
    if caller.owns(repo.namespace):
        return
    number = reference.decode().removeprefix(PULLS)
    own = number != reference.decode() and Discussions(repo).get(number)["author"]["name"] == caller.name
    if not own:
        raise NotAllowedError(f"Forbidden: you don't have write access to {repo.id}; open a pull request")


def commit_to(repo: Repo, git: GitWriter, reference: Ref, changes: Changes, author: str) -> Published:
    """Put a commit on a branch or an open pull request; the same tree again is no commit.

    Raises:
        ParentMovedError: the sender saw another head.
        RefusalError: the changes do not fit; nothing is changed.
    """
    with repo.lock():
        if reference.startswith(PULLS.encode()):
            Discussions(repo).open_pull_request(reference.decode().removeprefix(PULLS))
        head = _head(git, reference)
        if _is_sent_again(git, head, changes, author):
            return Published(head.decode())
        changes.check_parent(head)
        tree = changes.apply(git, head)
        if tree == git.tree(head):
            return Published(head.decode())
        sha = git.write_commit(tree, [head], author=author, message=changes.message)
        repo.lfs.keep(changes.objects)
        git.move_reference(reference, head, sha)
    return Published(sha.decode())


def propose(repo: Repo, git: GitWriter, base: Ref, changes: Changes, author: str) -> Published:
    """Open a pull request with one commit on top of a branch.

    Raises:
        RevisionNotFoundError: `base` is no branch.
        ParentMovedError: the sender saw another head.
        RefusalError: the changes do not fit; nothing is changed.
    """
    if not base.decode().startswith(HEADS):
        raise RevisionNotFoundError("Invalid rev id: a pull request starts from a branch")
    with repo.lock():
        head = _head(git, base)
        changes.check_parent(head)
        tree = changes.apply(git, head)
        sha = git.write_commit(tree, [head], author=author, message=changes.message)
        title, _, description = changes.message.partition("\n\n")
        proposal = Discussions(repo).draft(
            title=title, description=description, author=author, base=base.decode(), status="open"
        )
        repo.lfs.keep(changes.objects)
        open_pull_request(repo, git, proposal, sha)
    return Published(sha.decode(), proposal["num"])


def _head(git: GitRepo, reference: Ref) -> ObjectID:
    """Where a branch or pull request is, now that nobody can move it.

    Raises:
        RevisionNotFoundError: it was removed since the request began.
    """
    head = git.reference(reference.decode())
    if head is None:
        raise RevisionNotFoundError(f"Invalid rev id: {reference.decode()}")
    return head


def _is_sent_again(git: GitWriter, head: ObjectID, changes: Changes, author: str) -> bool:
    """Whether the head is what this very request made before: its answer got lost, and the sender tried again."""
    commit = git.commit(head)
    if not changes.parent or [changes.parent] != [sha.decode()[: len(changes.parent)] for sha in commit.parents]:
        return False
    if (commit.author, commit.message) != (person(author), encoded(changes.message)):
        return False
    try:
        return bool(changes.apply(git, commit.parents[0]) == commit.tree)
    except RefusalError:
        return False
