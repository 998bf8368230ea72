"""What a command is about: PATH or REF."""

import difflib
from dataclasses import replace
from pathlib import Path

from metta_hub import names
from metta_hub.api.report import Report, silent
from metta_hub.errors import BadReferenceError, NotFoundError, UsageError
from metta_hub.names import Reference


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
    path = Path(text).expanduser()
    if not text.startswith(names.SCHEME) and path.exists():
        if revision is not None:
            raise UsageError(f"{text} is a local path, and those have no revision.", hint="leave out --revision")
        if note := _ambiguity(text):
            report("note", note)
        return path
    if _looks_like_path(text):
        raise not_there(path)
    return reference(text, revision=revision, or_path=path)


def reference(text: str, *, revision: str | None = None, or_path: Path | None = None) -> Reference:
    """Read a reference, with the revision from an option when it has none of its own.

    Raises:
        UsageError: it is not a reference, or there are two revisions.
    """
    try:
        found = names.parse_reference(text)
    except BadReferenceError as error:
        if or_path is None:
            raise
        raise NotFoundError(
            text,
            f"'{text}' is neither a file or folder here nor a reference to a repo ({error.reason}).",
            hint=_nearest(or_path) or error.hint,
        ) from error
    if revision is None:
        return found
    if found.revision is not None:
        raise UsageError(
            f"'{text}' names the revision '{found.revision}' already, and --revision says '{revision}'.",
            hint="give one of them",
        )
    return replace(found, revision=revision)


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
    return NotFoundError(str(path), f"There is no file or folder {path}.", hint=_nearest(path))


def _looks_like_path(text: str) -> bool:
    if text.startswith(names.SCHEME):
        return False
    return text.startswith(("/", "./", "../", "~")) or text.endswith((".pt", ".json", ".safetensors", "/"))


def _nearest(path: Path) -> str:
    folder = path.parent
    there = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, there, n=1)
    return f"did you mean {folder / close[0]}?" if close else ""


def _ambiguity(text: str) -> str:
    try:
        found = names.parse_reference(text)
    except UsageError:
        return ""
    if not found.namespace:
        return ""
    return f"{text} is read as the local path; for the repo of that name write hf://{text}"
