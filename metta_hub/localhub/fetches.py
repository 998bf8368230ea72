"""What a git fetch gets: the references, and what it lacks of what it wants."""

from collections.abc import Callable
from typing import IO

from dulwich.errors import GitProtocolError
from dulwich.objects import ObjectID, valid_hexsha
from dulwich.protocol import Protocol, ReceivableProtocol
from dulwich.refs import Ref
from dulwich.repo import Repo as DulwichRepo
from dulwich.server import Backend, UploadPackHandler

from metta_hub.localhub.gitrepo import GitRepo

Write = Callable[[bytes], int | None]


def advertise(git: GitRepo, write: Write) -> None:
    """Tell a client that wants to fetch which references there are."""
    _handle(git.raw, lambda _count: b"", write, only_refs=True)


def send(git: GitRepo, request: IO[bytes], write: Write) -> None:
    """Answer a client that has said what it wants; raises almost anything when that is nonsense."""
    offered: dict[Ref, ObjectID] = git.raw.get_refs()
    heads = set(offered.values())
    late = _reachable(git, heads, _wants(request) - heads)
    request.seek(0)
    with _AtOneMoment(git.raw.path, offered | {Ref(b"refs/offered/" + sha): sha for sha in late}) as repository:
        _handle(repository, request.read, write)


class _AtOneMoment(DulwichRepo):
    """A repository whose references stay as they were, whatever is committed meanwhile.

    They may be more than there are: between a client's look at the references and its request, a branch may have moved
    on. What was offered then is still to be had, as git's own server has it.
    """

    def __init__(self, path: str, offered: dict[Ref, ObjectID]) -> None:
        super().__init__(path)
        self._offered = offered

    def get_refs(self) -> dict[Ref, ObjectID]:
        """The references of that moment."""
        return dict(self._offered)


class _OneRepo(Backend):
    """What dulwich's handlers ask for a repository: there is but one."""

    def __init__(self, repository: DulwichRepo) -> None:
        self._repository = repository

    def open_repository(self, path: str) -> DulwichRepo:
        """The repository."""
        del path
        return self._repository


def _handle(repository: DulwichRepo, read: Callable[[int], bytes], write: Write, *, only_refs: bool = False) -> None:
    protocol = ReceivableProtocol(read, write)
    UploadPackHandler(_OneRepo(repository), ["/"], protocol, stateless_rpc=True, advertise_refs=only_refs).handle()


def _wants(request: IO[bytes]) -> set[ObjectID]:
    """The commits that a request asks for: its first lines, up to an empty one."""
    protocol = Protocol(request.read, lambda _data: None)
    found: set[ObjectID] = set()
    try:
        while line := protocol.read_pkt_line():
            command, _, rest = line.partition(b" ")
            if command == b"want" and valid_hexsha(rest[:40]):
                found.add(ObjectID(rest[:40]))
    except (GitProtocolError, ValueError, AssertionError):
        return set()
    return found


def _reachable(git: GitRepo, heads: set[ObjectID], wanted: set[ObjectID]) -> set[ObjectID]:
    """Those of `wanted` that lead to one of `heads`: nothing else is anybody's to have."""
    found: set[ObjectID] = set()
    if not wanted:
        return found
    for commit in git.commits(sorted(heads)):
        if commit.id in wanted:
            found.add(commit.id)
            if found == wanted:
                break
    return found
