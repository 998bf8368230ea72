"""What a git push may bring: the same rules as for a commit over HTTP, and nothing by halves."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from dulwich.errors import GitProtocolError, MissingCommitError, ObjectFormatException
from dulwich.objects import ObjectID, Tag, valid_hexsha
from dulwich.protocol import Protocol, extract_capabilities
from dulwich.refs import Ref

from metta_hub.localhub.discussions import Discussions
from metta_hub.localhub.errors import BadRequestError, RefusalError, UnprocessableError
from metta_hub.localhub.gitrepo import HEADS, MAIN, PULLS, TAGS, GitRepo
from metta_hub.localhub.lfs import Pointer
from metta_hub.localhub.limits import Limits
from metta_hub.localhub.names import check_path, check_ref_name
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.trees import walk

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


def receive(repo: Repo, git: GitRepo, body: IO[bytes], limits: Limits) -> list[bytes]:
    """Take a push; return the lines of the report to the client.

    Raises:
        BadRequestError: the body is no push.
    """
    protocol = Protocol(body.read, lambda _data: None)
    commands, atomic = _read_commands(protocol)
    with repo.lock():
        if any(command.new != ZERO for command in commands):
            try:
                git.objects.add_thin_pack(body.read, body.read)
            except Exception as error:  # noqa: BLE001 - a damaged pack makes dulwich raise almost anything
                reason = f"unpack {type(error).__name__}".encode()
                return [reason, *(b"ng %s unpacker error" % command.name for command in commands)]
        refusals = {command.name: _why_not(repo, git, command, limits) for command in commands}
        if atomic and any(refusals.values()):
            refusals = {name: reason or "atomic push failed" for name, reason in refusals.items()}
        report = [b"unpack ok"]
        for command in commands:
            reason_text = refusals[command.name] or _apply(git, command)
            if reason_text:
                report.append(b"ng %s %s" % (command.name, reason_text.encode("utf-8", "replace")))
            else:
                report.append(b"ok " + command.name)
    return report


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


def _why_not(repo: Repo, git: GitRepo, command: Command, limits: Limits) -> str:
    """Why a command is refused; empty when it is fine."""
    try:
        name = command.name.decode()
        _check_name(repo, name, command)
        if (git.reference(name) or ZERO) != command.old:
            return "fetch first"
        if command.new != ZERO:
            _check_content(repo, git, command.new, limits)
    except UnicodeDecodeError:
        return "invalid name"
    except RefusalError as refusal:
        return str(refusal)
    except (KeyError, MissingCommitError):
        return "missing necessary objects"
    except (ObjectFormatException, ValueError, AssertionError, RecursionError, zlib.error):
        return "malformed object"
    return ""


def _check_name(repo: Repo, name: str, command: Command) -> None:
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


def _check_content(repo: Repo, git: GitRepo, new: ObjectID, limits: Limits) -> None:
    """Every commit that is new here has all its files, under names and in sizes that this Hub stores."""
    item = git.objects[new]
    while isinstance(item, Tag):
        item = git.objects[item.object[1]]
    known_heads = {sha for prefix in (HEADS, TAGS, PULLS) for sha in git.references(prefix).values() if sha != item.id}
    checked: set[tuple[str, ObjectID]] = set()
    for head in known_heads:
        checked.update((entry.path, entry.sha) for entry in walk(git.objects, git.tree(head), recursive=True))
    for step in git.raw.get_walker(include=[item.id], exclude=sorted(known_heads)):
        for entry in walk(git.objects, step.commit.tree, recursive=True):
            if (entry.path, entry.sha) in checked:
                continue
            checked.add((entry.path, entry.sha))
            check_path(entry.path)
            if not entry.is_folder:
                _check_blob(repo, entry.path, git.blob(entry.sha), limits)


def _check_blob(repo: Repo, path: str, blob: bytes, limits: Limits) -> None:
    if len(blob) > limits.regular_file:
        raise UnprocessableError(f"{path} has over {limits.regular_file} bytes: use git-lfs")
    pointer = Pointer.parse(blob)
    if pointer and not repo.lfs.holds(pointer):
        raise UnprocessableError(f"the LFS object of {path} was not uploaded")


def _apply(git: GitRepo, command: Command) -> str:
    """Move the reference; why not, if it can't be."""
    try:
        if command.new == ZERO:
            git.delete_reference(command.name)
        elif command.old == ZERO:
            git.create_reference(command.name, command.new)
        else:
            git.move_reference(command.name, command.old, command.new)
    except RefusalError as refusal:
        return str(refusal)
    return ""
