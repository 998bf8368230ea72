"""What a command is about: PATH or REF."""

import difflib
import shlex
from dataclasses import replace
from pathlib import Path

from metta_hub import names
from metta_hub.api.report import Report, silent
from metta_hub.errors import BadReferenceError, NotFoundError, UsageError
from metta_hub.names import Reference

#: What Metta's addresses of local files begin with.
_FILE = "file://"
#: What files are called that metta-hub reads.
_ENDINGS = (".pt", ".pth", ".json", ".safetensors", ".zip", ".mpt", "/")


def parse(text: str, *, revision: str | None = None, report: Report = silent) -> Path | Reference:
    """Decide what a text means: `hf://` is the Hub, an existing path is local, anything else is the Hub.

    Args:
        text: what the user typed.
        revision: from an option; a local path has none.
        report: told when the text could have meant both.

    Raises:
        UsageError: a revision is given twice, or for a local path; or the text is neither path nor reference.
        NotFoundError: the text looks like a path, and nothing is there.
    """
    text = text.removeprefix(_FILE)
    _refuse_empty(text)
    path = Path(text).expanduser()
    if not text.startswith(names.SCHEME) and path.exists():
        if revision is not None:
            raise UsageError(f"{text} is a local path, and those have no revision.", hint="leave out --revision")
        if note := _ambiguity(text):
            report("note", note)
        return path
    if "://" in text and not text.startswith(names.SCHEME):
        raise UsageError(f"{text} is not on this machine.", hint=_from_elsewhere(text))
    if looks_like_path(text):
        raise not_there(path)
    try:
        return _with_revision(text, revision)
    except BadReferenceError as error:
        raise NotFoundError(
            text,
            f"'{text}' is neither a file or folder here nor a reference to a repo ({error.reason}).",
            hint=_nearest(path) or error.hint,
        ) from error


def reference(text: str, *, revision: str | None = None) -> Reference:
    """Read a reference, with the revision from an option when it has none of its own.

    Raises:
        UsageError: it is not a reference, or there are two revisions.
    """
    _refuse_empty(text)
    if looks_like_path(text):
        raise BadReferenceError(text, "that is a local path", hint=_instead_of_path(text))
    return _with_revision(text, revision)


def _instead_of_path(text: str) -> str:
    """What to type instead of a path where a repo is meant."""
    if Path(text).expanduser().exists():
        return f"'metta-hub inspect {shlex.quote(text)}' looks into it"
    try:
        return f"for a repo write {names.SCHEME}{names.parse_reference(names.SCHEME + text)}"
    except BadReferenceError as error:
        return error.hint


def source(text: Path | str) -> Path:
    """A local path at which something is; `file://` before it is left out.

    Raises:
        NotFoundError: nothing is there; names the nearest.
        UsageError: it is an address of something elsewhere.
    """
    typed = str(text)
    _refuse_empty(typed)
    path = Path(typed.removeprefix(_FILE)).expanduser()
    if "://" in typed and not path.exists() and not typed.startswith(_FILE):
        raise UsageError(f"{typed} is not on this machine.", hint=_from_elsewhere(typed))
    if not path.exists():
        raise not_there(path)
    return path


def _from_elsewhere(text: str) -> str:
    """How to have something here that is elsewhere."""
    address = shlex.quote(text)
    if text.startswith(names.SCHEME):
        return f"'metta-hub pull {address}' fetches it"
    return f"copy it here first; 'metta-hub scan {address}' surveys it where it is"


def refuse_selector(found: Reference, instead: str) -> None:
    """For what is about a whole repo.

    Raises:
        UsageError: the reference names one checkpoint.
    """
    if found.selector:
        whole = replace(found, selector=None)
        sentence = f"'{found}' names one checkpoint of a repo, and a repo is meant."
        raise UsageError(sentence, hint=f"{instead}: {whole}")


def not_there(path: Path) -> NotFoundError:
    """The error for a path where nothing is, with the nearest name beside it."""
    return NotFoundError(str(path), f"There is no file or folder {path}.", hint=_nearest(path) or _beside(path))


def neither(text: str, found: Reference, error: NotFoundError) -> NotFoundError:
    """The error for a text that is no path here and no repo there: it names both readings."""
    sentence = f"There is no file or folder {text} here, and {str(error)[0].lower()}{str(error)[1:]}"
    return NotFoundError(found.repo_id, sentence, hint=_nearest(Path(text)) or error.hint)


def looks_like_path(text: str) -> bool:
    """Whether a text is a path to anyone who reads it, whatever lies there."""
    if text.startswith(names.SCHEME):
        return False
    return text in {".", ".."} or text.startswith(("/", "./", "../", "~")) or text.endswith(_ENDINGS)


def _refuse_empty(text: str) -> None:
    if not text.strip():
        raise UsageError("An empty text is neither a path nor a repo.", hint="is a variable of your shell empty?")


def _with_revision(text: str, revision: str | None) -> Reference:
    found = names.parse_reference(text)
    if revision is None:
        return found
    if found.revision is not None:
        raise UsageError(
            f"'{text}' names the revision '{found.revision}' already, and --revision says '{revision}'.",
            hint="give one of them",
        )
    if not names.is_revision(revision):
        raise UsageError(f"'{revision}' cannot be a revision.", hint="a branch, a tag, refs/pr/N or a commit")
    return replace(found, revision=revision)


def _nearest(path: Path) -> str:
    close = difflib.get_close_matches(path.name, _names_in(path.parent), n=1)
    return f"did you mean {path.parent / close[0]}?" if close else ""


def _beside(path: Path) -> str:
    """What there is instead, in words."""
    parent = path.parent
    if not parent.is_dir():
        nearest = next((folder for folder in parent.parents if folder.is_dir()), Path())
        return f"there is no folder {parent}; the nearest that is there is {nearest.resolve()}"
    shown = sorted(name for name in _names_in(parent) if name.endswith(_ENDINGS))[:5]
    return f"there is {', '.join(shown)}" if shown else f"{parent.resolve()} holds no checkpoint"


def _names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _ambiguity(text: str) -> str:
    if looks_like_path(text):
        return ""
    try:
        found = names.parse_reference(text)
    except UsageError:
        return ""
    if not found.namespace:
        return ""
    return f"{text} is read as the local path; for the repo of that name write hf://{text}"
