"""Every error that metta_hub raises, in one tree.

    MettaHubError
    ├── UsageError                  what was asked for makes no sense (exit code 2)
    │   ├── BadReferenceError       text, reason
    │   ├── BadNameError            name, reason
    │   ├── BadValueError           what; a ValueError, too
    │   ├── BadTypeError            what; a TypeError, too
    │   ├── MissingFieldError       what; an AttributeError, too
    │   └── RequiredFieldError      what; an AttributeError and a KeyError, too
    ├── NotFoundError               what
    │   └── NoRecordsError          a ValueError, too
    ├── ConflictError               what: something else is already there
    ├── FileError                   path, reason
    │   ├── FormatError             not a file that we read, or damaged
    │   │   ├── NotARecordError     what a store was given to load; a ValueError, too
    │   │   ├── NotPlainError       globals: a pickle that would run or build something
    │   │   └── ChecksumError       member: recorded and actual checksums differ
    │   ├── SourceChangedError      a file changed while we worked on it
    │   └── NoRoomError             needed: a disk, a quota or a limit has no room for a file
    ├── MetadataError               pointer, reason, path
    ├── SecretError                 pointer, kind: what must not be published
    ├── HubError                    repo_id, status
    │   ├── HubUnreachableError     endpoint
    │   │   └── OfflineError        asked not to ask the Hub, and the cache does not have it
    │   ├── NotAHubError            endpoint: whatever answers there, it is no Hub
    │   ├── RateLimitError          seconds: the Hub wants us to wait
    │   ├── HubAccessError          token_source: not allowed, or not logged in
    │   └── ParentMovedError        somebody else published meanwhile
    ├── WeightsMismatchError        missing, unexpected, misshapen
    ├── UnknownArchitectureError    name, known
    ├── ArchitectureError           component, reason: a component graph that makes no policy
    ├── AssumptionError             preset, assumed: what neither metadata nor weights say would have to be assumed
    └── MissingDependencyError      package, extra

An error says in one sentence what was wrong with what (`str(error)`), and in `hint` what to type next. Those that are
one of Python's own errors, too, are what callers of Metta's policy store have always caught.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self


class MettaHubError(Exception):
    """Base of every error of this package.

    Attributes:
        hint: the next step, as a command or an instruction; empty when there is none. A command is the whole hint,
            or stands in single quotes.
        usual_hint: the hint of those of a class that have none of their own.
        globals: the names that a pickle asks for, when something is wrong with what it holds.
    """

    usual_hint: ClassVar[str] = ""
    globals: tuple[str, ...] = ()

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.hint = hint or self.usual_hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and other processes get the same error, though classes here are made from other arguments."""
        return _remade, (type(self), self.args, vars(self))


def _remade(kind: type[MettaHubError], args: tuple[Any, ...], fields: dict[str, Any]) -> MettaHubError:
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class UsageError(MettaHubError):
    """The request itself is wrong, whatever lies on disk or on the Hub."""


class BadReferenceError(UsageError):
    """A text is not a reference `[hf://]org/name[@revision][:selector]`."""

    def __init__(self, text: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"'{text}' is not a reference to a repo: {reason}.", hint=hint)
        self.text = text
        self.reason = reason


class BadNameError(UsageError):
    """A text cannot be the name of a checkpoint."""

    def __init__(self, name: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"'{name}' cannot name a checkpoint: {reason}.", hint=hint)
        self.name = name
        self.reason = reason


class BadValueError(UsageError, ValueError):
    """An argument or a setting has a value that makes no sense."""

    def __init__(self, what: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.what = what


class BadTypeError(UsageError, TypeError):
    """An argument is of a type with which the work cannot be done."""

    def __init__(self, what: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.what = what


class MissingFieldError(UsageError, AttributeError):
    """Something that is read as an attribute is not there."""

    def __init__(self, what: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.what = what


class RequiredFieldError(UsageError, AttributeError, KeyError):
    """Something that must always be there cannot be removed."""

    def __init__(self, what: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.what = what

    __str__ = Exception.__str__  # a KeyError shows its words in quotes


class NotFoundError(MettaHubError):
    """A file, repo, revision or checkpoint is not there."""

    def __init__(self, what: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.what = what


class NoRecordsError(NotFoundError, ValueError):
    """There is nothing among which a store could choose."""


class ConflictError(MettaHubError):
    """Something else is already where the result should go."""

    def __init__(self, what: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.what = what


class FileError(MettaHubError):
    """Something is wrong with one file."""

    def __init__(self, path: Path | str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {reason}.", hint=hint)
        self.path = path
        self.reason = reason

    def known_as(self, path: str, *, hint: str) -> Self:
        """The same error of a file that users know by another name, as one of a repo that lies in a cache.

        Args:
            path: that name.
            hint: for errors that have none of their own.
        """
        again = copy.copy(self)
        again.args = (f"{path}: {self.reason}.",)
        again.path = path
        again.hint = self.hint if self.hint and self.hint != self.usual_hint else hint
        return again


class FormatError(FileError):
    """A file is not of a kind that we read, is damaged, or claims something impossible."""

    usual_hint = "copy or download the file once more, or save it again; a damaged one is not mended"


class NotARecordError(FormatError, ValueError):
    """What a store was given to load is no checkpoint that can be read; the reason is in `__cause__`, too."""


class NotPlainError(FormatError):
    """A pickle asks for more than tensors, and is therefore only looked at."""

    usual_hint = "'metta-hub inspect FILE' shows all that it asks for; what is published is a plain state dict"

    def __init__(self, path: Path | str, reason: str, *, globals_: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(path, reason, hint=hint)
        self.globals = tuple(globals_)


class ChecksumError(FormatError):
    """Bytes do not have the checksum that was recorded for them."""

    def __init__(self, path: Path | str, member: str, reason: str, *, hint: str = "") -> None:
        super().__init__(path, reason, hint=hint)
        self.member = member


class SourceChangedError(FileError):
    """A source file changed between reading it and finishing with it."""

    usual_hint = "run the same command again when nobody writes to it"


class NoRoomError(FileError):
    """A disk, a quota or a limit has no room for a file."""

    def __init__(self, path: Path | str, needed: int, why: str, *, hint: str = "") -> None:
        what = f"no room for its {needed:,} bytes" if needed else "no room for it"
        super().__init__(path, f"{what} ({why})", hint=hint)
        self.needed = needed


class MetadataError(MettaHubError):
    """Metadata cannot be what they say they are."""

    usual_hint = "mend the JSON, or give another value with --set KEY=VALUE"

    def __init__(self, pointer: str, reason: str, *, path: Path | str = "", hint: str = "") -> None:
        super().__init__(f"{f'{path}: ' if path else ''}metadata {pointer or '/'}: {reason}.", hint=hint)
        self.pointer = pointer
        self.reason = reason
        self.path = path


class SecretError(MettaHubError):
    """Something that looks like a credential would have been published."""

    def __init__(self, pointer: str, kind: str, *, hint: str = "") -> None:
        super().__init__(f"{pointer} holds what looks like {kind}; nothing was published.", hint=hint)
        self.pointer = pointer
        self.kind = kind


class HubError(MettaHubError):
    """The Hub refused, or answered something unexpected."""

    def __init__(self, repo_id: str, sentence: str, *, status: int | None = None, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.repo_id = repo_id
        self.status = status


class HubUnreachableError(HubError):
    """No answer from the Hub."""

    def __init__(self, repo_id: str, endpoint: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(repo_id, sentence, hint=hint)
        self.endpoint = endpoint


class OfflineError(HubUnreachableError):
    """HF_HUB_OFFLINE forbids to ask the Hub, and the cache does not have what is needed."""


class NotAHubError(HubError):
    """What answers at the endpoint does not speak the Hub's language."""

    def __init__(self, repo_id: str, endpoint: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(repo_id, sentence, hint=hint)
        self.endpoint = endpoint


class RateLimitError(HubError):
    """The Hub answers no more requests for a while."""

    def __init__(self, repo_id: str, sentence: str, *, seconds: int | None, hint: str = "") -> None:
        super().__init__(repo_id, sentence, status=429, hint=hint)
        self.seconds = seconds


class HubAccessError(HubError):
    """Not logged in, or the token lacks a right."""

    def __init__(
        self, repo_id: str, sentence: str, *, token_source: str, status: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(repo_id, sentence, status=status, hint=hint)
        self.token_source = token_source


class ParentMovedError(HubError):
    """The branch moved between reading it and committing to it."""


class WeightsMismatchError(MettaHubError):
    """Weights do not fit a policy."""

    def __init__(
        self,
        sentence: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(sentence, hint=hint)
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshapen = tuple(misshapen)


class UnknownArchitectureError(MettaHubError):
    """No builder is registered for the architecture that the metadata name."""

    def __init__(self, name: str, known: Sequence[str], *, hint: str = "") -> None:
        listed = ", ".join(sorted(known)) or "none"
        sentence = f"The weights are fine, but nothing here builds the architecture '{name}' (known: {listed})."
        super().__init__(sentence, hint=hint)
        self.name = name
        self.known = tuple(known)


class ArchitectureError(MettaHubError):
    """The architecture in the metadata makes no policy: it contradicts itself, or is larger than a policy may be."""

    usual_hint = "'metta-hub inspect' shows the metadata; push, pull, inspect and verify work without a policy"

    def __init__(self, component: str, reason: str, *, hint: str = "") -> None:
        where = f"component '{component}' " if component else ""
        super().__init__(f"The architecture cannot be built: {where}{reason}.", hint=hint)
        self.component = component
        self.reason = reason


class AssumptionError(MettaHubError):
    """Metadata and weights together do not say how a policy computes; what is missing would have to be assumed."""

    def __init__(self, preset: str, assumed: Sequence[str], *, hint: str = "") -> None:
        at = "/model_info/architecture/components/"
        listed = ", ".join(one.removeprefix(at) for one in assumed)
        super().__init__(
            f"The metadata hold no architecture, and the weights, which look like Metta's '{preset}' with other sizes,"
            f" do not show: {listed}.",
            hint=hint,
        )
        self.preset = preset
        self.assumed = tuple(assumed)


class MissingDependencyError(MettaHubError):
    """A package that this work needs is not installed."""

    def __init__(self, package: str, needed_for: str, *, install: str) -> None:
        super().__init__(f"{needed_for} needs {package}, which is not installed.", hint=f"pip install {install}")
        self.package = package
