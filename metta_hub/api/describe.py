"""A published checkpoint described from its documents and the header of its weights: no weight byte is read."""

from metta_hub import metadata, names
from metta_hub.api.pull import fetch
from metta_hub.api.remote import RepoCommit, RepoFiles
from metta_hub.checkpoint import Checkpoint, Findings, Origin, Weights
from metta_hub.containers import recipe, safetensors, torch_file
from metta_hub.errors import OfflineError
from metta_hub.formats import files
from metta_hub.formats import repo as repo_format
from metta_hub.index import Entry
from metta_hub.metadata import Metadata

#: Bytes of a safetensors file fetched first; most headers end within them.
FIRST_BYTES = 64 << 10


def describe(repo: RepoFiles, entry: Entry) -> Checkpoint:
    """Make a checkpoint whose weights table is complete, though the bytes under it were not fetched.

    Raises:
        NotFoundError: a file that the index lists is not there.
        FormatError: a document or header is damaged.
    """
    document, known = repo.fetch(names.metadata_file(entry.name)), metadata_of(repo, entry)
    weights = repo_format.tie_listed(_header(repo, entry), known.block)
    kept = names.recipe_file(entry.name)
    findings = _findings(repo, kept) if kept in entry.files else None
    return Checkpoint(
        name=entry.name,
        weights=weights,
        metadata=known,
        origin=Origin(
            path=document,
            format=repo_format.FORMAT,
            container="safetensors",
            sources={},
            findings=findings,
        ),
    )


def metadata_of(repo: RepoFiles, entry: Entry) -> Metadata:
    """What is known of a published checkpoint; nothing but its document is fetched.

    Raises:
        NotFoundError: it is not there.
        FormatError: it is damaged.
    """
    document = repo.fetch(names.metadata_file(entry.name))
    return metadata.parse(files.read_document(document), document)


def at_hand(repo: RepoCommit, entry: Entry) -> Checkpoint:
    """A published checkpoint; offline, where only what a pull fetched may be at hand, that is read instead.

    Raises:
        NotFoundError: a file that the index lists is not there.
        OfflineError: neither is cached.
        FormatError: a document or header is damaged.
    """
    try:
        return describe(repo, entry)
    except OfflineError:
        return fetch(repo, entry)


def _header(repo: RepoFiles, entry: Entry) -> Weights:
    path = repo_format.weights_path(entry)
    size = repo.sizes[path] if path in repo.sizes else entry.files[path].size
    start = repo.prefix(path, min(size, FIRST_BYTES))
    needed = safetensors.header_size(start, size, path)
    if needed > len(start):
        start = repo.prefix(path, needed)
    return safetensors.parse_header(start, size, path)


def _findings(repo: RepoFiles, path: str) -> Findings:
    looked = recipe.look(files.read_document(repo.fetch(path)), path)
    return torch_file.judge_pickle(looked.pickle, looked.container, path)
