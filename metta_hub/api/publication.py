"""What one publication changes in a repo: decided from the repo's state at one commit, before anything is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from metta_hub import history, metadata, names
from metta_hub import index as index_file
from metta_hub.api import front, probes
from metta_hub.api.describe import describe
from metta_hub.api.judging import Publishable
from metta_hub.api.materials import Materials
from metta_hub.api.remote import RepoCommit
from metta_hub.checkpoint import Checkpoint
from metta_hub.containers import copying
from metta_hub.errors import ConflictError, NotFoundError
from metta_hub.formats import files
from metta_hub.formats import repo as repo_format
from metta_hub.hub import Changes, Upload
from metta_hub.index import Entry, FileRecord, Index
from metta_hub.metadata import JSON
from metta_hub.names import CARD, CONFIG, INDEX, PROBE

_ATTRIBUTES = ".gitattributes"


@dataclass(frozen=True)
class Request:
    """What the author asks of a publication.

    Attributes:
        promote: make the checkpoint the root.
        replace: put it in place of another run's checkpoint of that name.
        template: name or file of the card's template.
        license_id: the Hub's id of a licence; None keeps the one that the card names.
        probe: a file of observations and what the root puts out for them; None keeps the one that is there, as long
            as the root stays what it is.
    """

    promote: bool = True
    replace: bool = False
    template: str = "default"
    license_id: str | None = None
    probe: Path | None = None


@dataclass(frozen=True)
class Publication:
    """A planned commit.

    Attributes:
        changes: what to send, copy and remove; empty when the repo holds it all already.
        index: the index afterwards.
        files: every file of the checkpoint and of the repo's front, size and sha256 by path.
        replaced: a checkpoint of that name with other weights was there.
        card: the card, as it will be.
        license_id: the licence on it.
        warnings: sentences that the author should see.
    """

    changes: Changes
    index: Index
    files: Mapping[str, FileRecord]
    replaced: bool
    card: str
    license_id: str | None
    warnings: tuple[str, ...]


def plan(item: Publishable, materials: Materials, repo: RepoCommit, request: Request) -> Publication:
    """Decide what a commit must do so that the repo holds the checkpoint.

    Args:
        item: the checkpoint, fit to be seen.
        materials: its weights as files.
        repo: the repo at the commit that the plan is made against.
        request: what the author wants.

    Raises:
        ConflictError: another run's checkpoint has that name, or the repo holds files of another tool.
        SecretError: a text of the card looks like a credential.
    """
    name, before = item.checkpoint.name, repo.index_if_any()
    document = _document(item, materials)
    entry = _entry(item, materials, document)
    earlier = _refuse_other_run(before, entry, request)
    index = index_file.put(before, entry, root=request.promote or before.root in {None, name})
    entry = next(one for one in index.entries if one.name == name)

    documents = {names.metadata_file(name): document, INDEX: index_file.dumps(index)}
    probe = _probe(repo, before, index, request)
    visible = _front(_root(item, document, repo, index), repo, index, documents[INDEX], request, probe)
    documents |= visible.documents
    index_file.parse(documents[INDEX])  # what is published can be read: limits hold for both
    listed = {path: record for each in index.entries for path, record in each.files.items()}
    wanted = listed | probe.wanted | {path: _record(content) for path, content in documents.items()}
    _refuse_other_tool(wanted, repo, request)
    stale = {path for each in before.entries for path in each.files} - listed.keys() | probe.stale
    at_hand = {materials.records[path].sha256: content for path, content in materials.contents.items()}
    at_hand |= {_record(content).sha256: content for content in documents.values()}
    if request.probe is not None:
        at_hand[probe.wanted[PROBE].sha256] = request.probe
    replaced = earlier is not None and _weights(earlier) != _weights(entry)
    warnings = [f"{name} was there with other weights; they are replaced."] * replaced
    return Publication(
        changes=_changes(wanted, at_hand, repo, stale),
        index=index,
        files={path: wanted[path] for path in sorted({*entry.files, *probe.wanted, *documents})},
        replaced=replaced,
        card=visible.documents[CARD].decode(errors="replace"),
        license_id=visible.license_id,
        warnings=(*warnings, *visible.warnings),
    )


def _document(item: Publishable, materials: Materials) -> bytes:
    """`checkpoints/NAME.json`: the pair's JSON that pull writes back."""
    written = materials.weights
    weights: dict[str, JSON] = {"file": materials.weights_file, "size": written.size, "sha256": written.sha256}
    return metadata.dumps({**item.checkpoint.metadata.values, "metta_hub": {**item.block, "weights": weights}})


def _entry(item: Publishable, materials: Materials, document: bytes) -> Entry:
    checkpoint = item.checkpoint
    files = {**materials.records, names.metadata_file(checkpoint.name): _record(document)}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return index_file.entry_of(
        checkpoint.name,
        checkpoint.metadata,
        parameters=checkpoint.weights.parameters,
        files=files,
        published_at=now,
    )


def _refuse_other_run(before: Index, entry: Entry, request: Request) -> Entry | None:
    """The entry whose place the checkpoint takes."""
    earlier = next((one for one in before.entries if one.name == entry.name), None)
    if earlier is None:
        return None
    others = None not in {earlier.run_name, entry.run_name} and earlier.run_name != entry.run_name
    if others and not request.replace:
        raise ConflictError(
            entry.name,
            f"The repo holds {earlier.name} of the run '{earlier.run_name}', and this one is of '{entry.run_name}'.",
            hint="--replace puts it in its place; or rename the file",
        )
    return earlier


def _refuse_other_tool(wanted: Mapping[str, FileRecord], repo: RepoCommit, request: Request) -> None:
    """A repo without an index of ours may hold another tool's model under the same names."""
    taken = sorted(wanted.keys() & repo.tree.keys() - {CARD})
    if taken and INDEX not in repo.tree and not request.replace:
        raise ConflictError(
            repo.repo_id,
            f"{repo.repo_id} was not published with metta-hub, and holds {', '.join(taken)}.",
            hint="choose another repo, or --replace overwrites those files",
        )


def _root(item: Publishable, document: bytes, repo: RepoCommit, index: Index) -> Checkpoint:
    """The checkpoint that the repo will stand for, as its published document describes it."""
    if index.root != item.checkpoint.name:
        return describe(repo, history.select(index, None).entry)
    published = metadata.parse(document, names.metadata_file(item.checkpoint.name))
    return replace(item.checkpoint, metadata=published)


def _weights(entry: Entry) -> FileRecord:
    return entry.files[repo_format.weights_path(entry)]


# --- the probe ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Probe:
    """The root's probe: the file that there should be, if any, and one that is of no use any more."""

    wanted: dict[str, FileRecord]
    stale: frozenset[str]


def _probe(repo: RepoCommit, before: Index, index: Index, request: Request) -> _Probe:
    """A new probe; else the published one, as long as the root's weights are those that it was made with."""
    if request.probe is not None:
        written = copying.digest(request.probe)
        return _Probe({PROBE: FileRecord(written.size, written.sha256)}, frozenset())
    listed = probes.listed(repo)
    if listed is None:
        return _Probe({}, frozenset())
    earlier, later = (one and history.select(one, None).entry for one in (before if before.root else None, index))
    stays = earlier and later and earlier.name == later.name and _weights(earlier) == _weights(later)
    return _Probe({PROBE: listed}, frozenset()) if stays else _Probe({}, frozenset({PROBE}))


# --- the front: card and config.json ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Front:
    """What a visitor of the repo sees first.

    Attributes:
        documents: the card and config.json.
        license_id: the licence on the card.
        warnings: sentences that the author should see.
    """

    documents: Mapping[str, bytes]
    license_id: str | None
    warnings: tuple[str, ...]


def _front(
    root: Checkpoint, repo: RepoCommit, index: Index, index_bytes: bytes, request: Request, probe: _Probe
) -> _Front:
    entry = history.select(index, None).entry
    text = front.card_of(root, repo, index, template=request.template, license_id=request.license_id)
    beside = {CARD: text.content, INDEX: index_bytes}
    if _ATTRIBUTES in repo.tree:
        beside[_ATTRIBUTES] = repo.document(_ATTRIBUTES)
    block = {key: value for key, value in root.metadata.block.items() if key != "weights"}
    if text.kept:
        block[repo_format.KEPT] = [CARD]
    listed = {**entry.files, **probe.wanted, **{path: _record(content) for path, content in beside.items()}}
    config = repo_format.config_document(root.metadata, name=entry.name, block=block, listed=listed)
    warning = f"{CARD} was edited on the Hub and is kept as it is; --license and --template do nothing to it."
    return _Front({CARD: text.content, CONFIG: config}, text.license_id, (warning,) if text.kept else ())


# --- the changes --------------------------------------------------------------------------------------------------


def _changes(
    wanted: Mapping[str, FileRecord], at_hand: Mapping[str, bytes | Path], repo: RepoCommit, stale: set[str]
) -> Changes:
    """Send what the Hub lacks, copy what it holds elsewhere, leave the rest alone.

    Args:
        wanted: every file that the repo should have afterwards.
        at_hand: contents by their sha256.
        repo: what there is.
        stale: files of checkpoints that are no longer where they were.
    """
    stored = {file.sha256: path for path, file in sorted(repo.tree.items()) if file.sha256}
    uploads, copies = [], []
    for path, record in sorted(wanted.items()):
        content = at_hand.get(record.sha256)
        if _is_there(repo, path, record, content):
            continue
        if record.sha256 in stored:
            copies.append((stored[record.sha256], path))
        elif content is not None:
            uploads.append(Upload(path, content, record.size, record.sha256))
        else:
            sentence = f"{repo.label} lacks {path}, which its index lists."
            raise NotFoundError(path, sentence, hint=f"'metta-hub verify {repo.repo_id}' shows what else")
    return Changes(uploads, copies, sorted(stale & repo.tree.keys()))


def _is_there(repo: RepoCommit, path: str, record: FileRecord, content: bytes | Path | None) -> bool:
    file = repo.tree.get(path)
    if file is None:
        return False
    if content is None and file.sha256 is None:
        return True  # a document of another checkpoint: git knows only its sha1, and this publication leaves it alone
    if file.sha256 is None and isinstance(content, Path):
        content = files.read_document(content)  # a Hub that keeps a small file of weights in git
    return file.holds(record.size, record.sha256, content if isinstance(content, bytes) else None)


def _record(content: bytes) -> FileRecord:
    written = copying.digest_bytes(content)
    return FileRecord(written.size, written.sha256)
