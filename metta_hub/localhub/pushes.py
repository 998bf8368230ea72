"""What a git push may bring: the same rules as for a commit over HTTP, and nothing by halves."""

import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO

from dulwich.errors import GitProtocolError, MissingCommitError, ObjectFormatException
from dulwich.objects import S_ISGITLINK, Commit, ObjectID, Tag, valid_hexsha
from dulwich.protocol import Protocol, extract_capabilities
from dulwich.refs import Ref

from metta_hub.localhub.discussions import Discussions
from metta_hub.localhub.errors import BadRequestError, ParentMovedError, RefusalError, UnprocessableError
from metta_hub.localhub.gitrepo import HEADS, MAIN, PULLS, TAGS, GitRepo
from metta_hub.localhub.gitwriter import GitWriter
from metta_hub.localhub.lfs import Pointer
from metta_hub.localhub.limits import Limits
from metta_hub.localhub.names import check_path, check_ref_name, leads_outside
from metta_hub.localhub.packs import check_sizes
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.trees import Entry, walk

ZERO = ObjectID(b"0" * 40)

_CAPABILITIES = b"report-status delete-refs atomic ofs-delta object-format=sha1 agent=metta_hub"
_MOST_COMMANDS = 1000


@dataclass(frozen=True, slots=True)
class Command:
    """One reference that a push wants to move; `ZERO` stands for "not there"."""

    old: ObjectID
    new: ObjectID
    name: Ref


def advertise(git: GitRepo, write_line: Callable[[bytes | None], object]) -> None:
    """Tell a client that wants to push which references there are."""
    lines = [b"%s %s" % (sha, name) for name, sha in sorted(git.raw.get_refs().items()) if name != b"HEAD"]
    first, *others = lines or [ZERO + b" capabilities^{}"]
    write_line(first + b"\0" + _CAPABILITIES + b"\n")
    for line in others:
        write_line(line + b"\n")
    write_line(None)


def receive(repo: Repo, git: GitWriter, body: IO[bytes], limits: Limits) -> list[bytes]:
    """Take a push; return the lines of the report to the client.

    Raises:
        BadRequestError: the body is no push.
    """
    protocol = Protocol(body.read, lambda _data: None)
    commands, atomic = _read_commands(protocol)
    if any(command.new != ZERO for command in commands):
        try:
            check_sizes(body, limits.git_object)
            git.incoming.put_pack(body.read)
        except Exception as error:  # noqa: BLE001 - a damaged pack makes dulwich raise almost anything
            reason = _said(error)
            return [f"unpack {reason}".encode(), *(b"ng %s unpacker error" % command.name for command in commands)]
    # Looking through what came may take a while, and needs no lock: nobody else sees it yet.
    objects: dict[Ref, set[str]] = {command.name: set() for command in commands}
    refusals = {
        command.name: _why_not(partial(_check_content, repo, git, command, limits, objects[command.name]))
        for command in commands
    }
    with repo.lock():
        for command in commands:
            refusals[command.name] = refusals[command.name] or _why_not(partial(_check_move, repo, git, command))
        for name in _clashing(git, commands):
            refusals[name] = refusals[name] or "another name is in the way"
        if atomic and any(refusals.values()):
            refusals = {name: reason or "atomic push failed" for name, reason in refusals.items()}
        report = [b"unpack ok"]
        for command in commands:
            reason_text = refusals[command.name] or _why_not(partial(_apply, repo, git, command, objects[command.name]))
            if reason_text:
                report.append(b"ng %s %s" % (command.name, reason_text.encode("utf-8", "replace")))
            else:
                report.append(b"ok " + command.name)
    return report


def _said(error: Exception) -> str:
    match error:
        case RefusalError():
            return str(error)
        case OSError(strerror=str(reason)):
            return reason
        case _:
            return type(error).__name__


def _clashing(git: GitRepo, commands: list[Command]) -> set[Ref]:
    """New names of which one would be a folder of another: `a` beside `a/b`."""
    made = {command.name for command in commands if command.new != ZERO}
    gone = {command.name for command in commands if command.new == ZERO}
    names = (git.raw.get_refs().keys() - gone) | made
    folders = {Ref(name[:end]) for name in names for end in range(len(name)) if name[end : end + 1] == b"/"}
    return {name for name in made if name in folders or any(name.startswith(other + b"/") for other in names)}


def _read_commands(protocol: Protocol) -> tuple[list[Command], bool]:
    commands: list[Command] = []
    capabilities: list[bytes] = []
    try:
        while (line := protocol.read_pkt_line()) is not None:
            if not commands:
                line, capabilities = extract_capabilities(line)
            old, new, name = line.rstrip(b"\n").split(b" ", 2)
            if not (valid_hexsha(old) and valid_hexsha(new)) or len(commands) >= _MOST_COMMANDS:
                raise BadRequestError("Not a git push")
            commands.append(Command(ObjectID(old), ObjectID(new), Ref(name)))
    except (GitProtocolError, ValueError, AssertionError):
        raise BadRequestError("Not a git push") from None
    return commands, b"atomic" in capabilities


def _why_not(check: Callable[[], None]) -> str:
    """Why a check refuses; empty when all is fine."""
    try:
        check()
    except UnicodeDecodeError:
        return "invalid name"
    except RefusalError as refusal:
        return str(refusal)
    except (KeyError, MissingCommitError):
        return "missing necessary objects"
    except (ObjectFormatException, ValueError, AssertionError, RecursionError, zlib.error):
        return "malformed object"
    return ""


def _check_move(repo: Repo, git: GitRepo, command: Command) -> None:
    """Whether the reference may be moved, and is still where the sender saw it; only with the repo's lock held."""
    name = command.name.decode()
    deletes = command.new == ZERO
    if name.startswith(HEADS):
        check_ref_name("heads", name.removeprefix(HEADS))
        if deletes and command.name == MAIN:
            raise BadRequestError("main cannot be deleted")
    elif name.startswith(TAGS):
        check_ref_name("tags", name.removeprefix(TAGS))
    elif name.startswith(PULLS) and not deletes and command.old != ZERO:
        Discussions(repo).open_pull_request(name.removeprefix(PULLS))
    else:
        raise BadRequestError("only branches, tags and open pull requests can be pushed")
    if (git.reference(name) or ZERO) != command.old:
        raise ParentMovedError("fetch first")


def _check_content(repo: Repo, git: GitRepo, command: Command, limits: Limits, objects: set[str]) -> None:
    """Every commit that is new here has all its files, under names and in sizes that this Hub stores.

    The ids of the LFS objects that they need are added to `objects`.
    """
    if command.new == ZERO:
        return
    item = git.objects[command.new]
    while isinstance(item, Tag):
        item.check()
        item = git.objects[item.object[1]]
    if not isinstance(item, Commit):
        raise UnprocessableError("only commits can be pushed")
    known_heads = {sha for prefix in (HEADS, TAGS, PULLS) for sha in git.references(prefix).values() if sha != item.id}
    checked: set[tuple[str, ObjectID]] = set()
    for head in known_heads:
        checked.update((entry.path, entry.sha) for entry in walk(git.objects, git.tree(head), recursive=True))
    for commit in git.commits([item.id], without=sorted(known_heads)):
        commit.check()
        git.objects[commit.tree].check()
        for entry in walk(git.objects, commit.tree, recursive=True):
            if (entry.path, entry.sha) in checked:
                continue
            checked.add((entry.path, entry.sha))
            check_path(entry.path)
            _check_entry(repo, git, entry, limits, objects)


def _check_entry(repo: Repo, git: GitRepo, entry: Entry, limits: Limits, objects: set[str]) -> None:
    if S_ISGITLINK(entry.mode):
        raise UnprocessableError(f"{entry.path} is a submodule: push its files")
    if entry.is_folder:
        git.objects[entry.sha].check()
        return
    blob = git.blob(entry.sha)
    if stat.S_ISLNK(entry.mode) and leads_outside(entry.path, blob):
        raise UnprocessableError(f"the symbolic link {entry.path} leads out of the repo")
    if len(blob) > limits.regular_file:
        raise UnprocessableError(f"{entry.path} has over {limits.regular_file} bytes: use git-lfs")
    pointer = Pointer.parse(blob)
    if not pointer:
        return
    if not repo.lfs.holds(pointer):
        raise UnprocessableError(f"the LFS object of {entry.path} was not uploaded")
    objects.add(pointer.oid)


def _apply(repo: Repo, git: GitRepo, command: Command, objects: set[str]) -> None:
    repo.lfs.keep(objects)
    if command.new == ZERO:
        git.delete_reference(command.name)
    elif command.old == ZERO:
        git.create_reference(command.name, command.new)
    else:
        git.move_reference(command.name, command.old, command.new)
