"""push: publish one checkpoint. read → judge → preflight → make files → plan → one commit."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metta_hub import card, formats, scrub
from metta_hub.api import judging, materials, preflight, publication, sources, targets
from metta_hub.api.judging import Publishable
from metta_hub.api.materials import Materials
from metta_hub.api.preflight import Place, Wish
from metta_hub.api.publication import Publication, Request
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import Report, count, megabytes, silent, working
from metta_hub.checkpoint import Origin
from metta_hub.errors import ConflictError, HubError, MettaHubError, ParentMovedError
from metta_hub.formats import scratch
from metta_hub.hub import Committed, Hub
from metta_hub.names import CARD
from metta_hub.scrub import Redaction

#: How often a publication is planned and tried, because somebody else published meanwhile.
TRIES = 12
#: Seconds to wait at most before the second try and before any other: as long as a publication takes, about.
FIRST_WAIT, LONGEST_WAIT = 0.2, 2.0
_CHANGED = "the file changed while it was being published; nothing was published"


@dataclass(frozen=True, slots=True)
class PushedFile:
    """A published file: path in the repo, bytes, sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Pushed:
    """What a push did; the fields of its `--json` output.

    Attributes:
        repo_id: where the checkpoint is.
        url: the page of the repo, or of the pull request.
        commit: the commit that holds it; None for a dry run that would make one.
        changed: whether there is a new commit.
        checkpoint: NAME.
        root: the checkpoint that the repo stands for now.
        replaced: whether other weights of that name were replaced.
        files: path, size and sha256 of each of its files.
        redactions: pointer and kind of everything that was removed from the metadata.
        warnings: sentences.
        created: whether the repo was made for it.
        private: the repo's visibility; None when a new one has the Hub's default.
        license: the licence on the card; None when it names none.
        sent: bytes that had (or, in a dry run, have) to be sent.
    """

    repo_id: str
    url: str
    commit: str | None
    changed: bool
    checkpoint: str
    root: str
    replaced: bool
    files: tuple[PushedFile, ...]
    redactions: tuple[Redaction, ...]
    warnings: tuple[str, ...]
    created: bool
    private: bool | None
    license: str | None
    sent: int


def push(
    path: Path | str,
    repo: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str = "",
    token: str | None = None,
    cache_dir: Path | None = None,
    tag: str | None = None,
    dry_run: bool = False,
    pt: bool = True,
    promote: bool = True,
    replace: bool = False,
    template: str = "default",
    license: str | None = None,  # noqa: A002  (the Hub's and the command line's word)
    settings: Sequence[str] = (),
    metadata_file: Path | None = None,
    report: Report = silent,
) -> Pushed:
    """Publish a checkpoint of any format as one commit.

    Args:
        path: a file of a pair, a plain `.pt`, a `.safetensors` file, the index or folder of sharded ones, a bundle,
            or an old file: of that the pair is published that `migrate` would make.
        repo: `org/name`, or a bare name for a repo of one's own.
        revision: the branch; made when it is not there.
        private: the visibility of a repo that is made; the other one than an existing repo's is refused.
        create_pr: open a pull request instead of moving the branch.
        commit_message: its title; a sensible one when not given.
        commit_description: the rest of the message.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache, for the repo's documents.
        tag: a tag to make at the commit.
        dry_run: do everything but publish.
        pt: publish the original `.pt` (and what gives it back later); without it the mirror is all.
        promote: make the checkpoint the root.
        replace: put it in place of another run's checkpoint of that name.
        template: name or file of a card template.
        license: the Hub's id of a licence.
        settings: `key=value` texts that fill in metadata.
        metadata_file: a JSON file that fills in metadata.
        report: told what is being done.

    Raises:
        MettaHubError: nothing was published; every reason has a class of its own in `metta_hub.errors`.
    """
    reference = targets.reference(repo, revision=revision)
    options = {"--commit-message": commit_message, "--commit-description": commit_description, "--license": license}
    for option, text in (options | {"--tag": tag, "--revision": revision}).items():
        scrub.check_text(text or "", option)
    wish = Wish(reference, private, create_pr, tag)
    preflight.check_names(wish)
    source = targets.source(path)
    card.read_template(template)
    hub = Hub("push", publishing=True, token=token, cache_dir=cache_dir)
    item = _look(source, settings, metadata_file, report, pt=pt)
    place = preflight.check(hub, wish)
    with scratch.folder() as folder:
        job = _Job(
            hub=hub,
            wish=wish,
            item=item,
            request=Request(promote=promote, replace=replace, template=template, license_id=license),
            message=scrub.scrub_text(commit_message or f"Publish {item.checkpoint.name}")[0],
            description=scrub.scrub_text(commit_description)[0],
            files=_Files(item, folder, keep_pt=pt, report=report),
            report=report,
        )
        return _rehearse(job, place) if dry_run else _publish(job, place)


@dataclass(frozen=True)
class _Job:
    """What to publish, where and how: everything that does not change when the repo does."""

    hub: Hub
    wish: Wish
    item: Publishable
    request: Request
    message: str
    description: str
    files: "_Files"
    report: Report


def _look(path: Path, settings: Sequence[str], metadata_file: Path | None, report: Report, *, pt: bool) -> Publishable:
    source = formats.read(path)
    known, weights = source.metadata.values, source.weights
    epoch = known.get("epoch")
    read = [
        source.origin.format,
        count(len(weights.tensors), "tensor"),
        count(weights.parameters, "parameter"),
    ]
    report("read", ", ".join([*read, f"epoch {epoch if isinstance(epoch, int) else 'unknown'}"]))
    with sources.unchanged(source.origin, _CHANGED):
        item = judging.judge(source, pt=pt, settings=settings, metadata_file=metadata_file)
    for redaction in item.redactions:
        report("clean", _redaction_in_words(item, redaction))
    return item


def _redaction_in_words(item: Publishable, redaction: Redaction) -> str:
    if redaction.pointer == "/uri" and item.uri is not None:
        return f"/uri: {_shortened(item.uri)} → {item.checkpoint.metadata.values['uri']}"
    return f"{redaction.pointer}: {redaction.kind} removed"


def _shortened(uri: str) -> str:
    """`file:///home/…/model_0100.pt`: enough to recognise a path, not enough to give it away."""
    parts = uri.split("/")
    return "/".join([*parts[:4], "…", parts[-1]]) if len(parts) > 5 else uri  # noqa: PLR2004  (file: "" "" home … name)


class _Files:
    """Makes the files of a checkpoint at most once, and not at all when the repo holds them already."""

    def __init__(self, item: Publishable, folder: Path, *, keep_pt: bool, report: Report) -> None:
        self._item = item
        self._folder = folder
        self._keep_pt = keep_pt
        self._report = report
        self._made: Materials | None = None

    def for_repo(self, repo: RepoCommit) -> Materials:
        """The files, as far as this repo lacks them."""
        if self._made is None:
            with working(self._report, "check"):
                known = materials.known(self._item.checkpoint, repo, keep_pt=self._keep_pt)
            if known is not None:
                return known
        return self.made()

    def made(self) -> Materials:
        """All the files."""
        if self._made is None:
            self._made = materials.make(self._item.checkpoint, self._folder, keep_pt=self._keep_pt, report=self._report)
            self._report("prove", self._made.proof)
        return self._made


def _rehearse(job: _Job, place: Place) -> Pushed:
    """Plan against the repo as it is, and stop there."""
    planned = _plan_ahead(job, place)
    exists = place.repo is not None and place.branch_exists
    commit = job.hub.resolve(place.repo_id, place.branch) if exists else None
    return _result(job, place, planned, created=place.repo is None, commit=None if planned.changes else commit)


def _plan_ahead(job: _Job, place: Place) -> Publication:
    """What would be published; a branch that is still to be made begins as `main` is."""
    commit = None
    if place.repo is not None:
        commit = job.hub.resolve(place.repo_id, place.branch) if place.branch_exists else place.repo.commit
    repo = RepoCommit(job.hub, place.repo_id, commit)
    return _plan(job, repo)


def _plan(job: _Job, repo: RepoCommit) -> Publication:
    """Make the files and decide what to do with them."""
    with sources.unchanged(job.item.checkpoint.origin, _CHANGED):
        return publication.plan(job.item, job.files.for_repo(repo), repo, job.request)


def _publish(job: _Job, place: Place) -> Pushed:
    """Plan and commit; when somebody else published meanwhile, look again and decide again."""
    checked = ""
    if place.repo is None or not place.branch_exists:
        checked = _plan_ahead(job, place).card
        job.hub.check_card(checked)  # nothing is made for what would be refused
        place = _make_place(job, place)
    for turn in range(TRIES):
        _wait(turn)
        repo = RepoCommit(job.hub, place.repo_id, job.hub.resolve(place.repo_id, place.branch))
        planned = _plan(job, repo)
        if not planned.changes:
            _tag(job, place, str(repo.commit))
            return _result(job, place, planned, created=place.created, commit=repo.commit)
        if place.tagged:
            raise preflight.tag_taken(place.repo_id, job.wish.tag)
        if planned.card != checked and any(upload.path == CARD for upload in planned.changes.uploads):
            checked = planned.card
            job.hub.check_card(checked)  # nor is anything sent for it
        try:
            committed = _commit(job, place, repo, planned)
        except ParentMovedError:
            job.report("again", f"somebody else published to {place.repo_id} meanwhile")
            continue
        _tag(job, place, committed.commit)
        proposed = committed.pull_request
        return _result(job, place, planned, created=place.created, commit=committed.commit, proposed=proposed)
    raise ParentMovedError(
        place.repo_id,
        f"Others published to {place.repo_id} before each of {TRIES} tries; nothing was published.",
        hint="run the same command again, nothing is sent twice; at best when fewer publish there",
    )


def _wait(turn: int) -> None:
    """Leave the way to others, for a time that is different for each of those who wait."""
    if turn:
        time.sleep(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** (turn - 1))))  # noqa: S311  (no secret)


def _make_place(job: _Job, place: Place) -> Place:
    hub = job.hub
    if place.repo is None:
        try:
            place = replace(place, repo=hub.create(place.repo_id, private=job.wish.private), created=True)
        except ConflictError:
            place = preflight.check(hub, job.wish)  # somebody was faster: what holds for theirs?
            if place.repo is None:
                raise
    if place.repo is not None and not place.branch_exists:
        hub.create_branch(place.repo_id, place.branch, place.repo.commit)
    return place


def _commit(job: _Job, place: Place, repo: RepoCommit, planned: Publication) -> Committed:
    job.report("send", megabytes(_bytes_to_send(planned)))
    return job.hub.commit(
        place.repo_id,
        planned.changes,
        parent=str(repo.commit),
        revision=place.branch,
        message=job.message,
        description=job.description,
        create_pr=job.wish.create_pr,
        check_sources=lambda: sources.require_unchanged(job.item.checkpoint.origin, _CHANGED),
    )


def _tag(job: _Job, place: Place, commit: str) -> None:
    tag = job.wish.tag
    if tag is None:
        return
    try:
        job.hub.tag(place.repo_id, tag, commit, job.message)
    except MettaHubError as error:
        sentence = f"It is published in {place.repo_id} as {commit}, but the tag '{tag}' was not made: {error}"
        command = f"hf repos tag create {place.repo_id} {{}} --revision {commit}"
        taken = isinstance(error, ConflictError)
        hint = f"choose another: {command.format('TAG')}" if taken else command.format(tag)
        raise HubError(place.repo_id, sentence, hint=hint) from error


def _migrated(origin: Origin) -> list[str]:
    if not origin.migrates:
        return []
    return [f"{origin.path.name} is a {origin.format}: what is published is the pair that migration makes of it."]


def _bytes_to_send(planned: Publication) -> int:
    return sum(upload.size for upload in planned.changes.uploads)


def _result(
    job: _Job, place: Place, planned: Publication, *, created: bool, commit: str | None, proposed: str | None = None
) -> Pushed:
    return Pushed(
        repo_id=place.repo_id,
        url=proposed or f"{job.hub.endpoint}/{place.repo_id}",
        commit=commit,
        changed=bool(planned.changes),
        checkpoint=job.item.checkpoint.name,
        root=str(planned.index.root),
        replaced=planned.replaced,
        files=tuple(PushedFile(path, file.size, file.sha256) for path, file in planned.files.items()),
        redactions=job.item.redactions,
        warnings=(*_migrated(job.item.checkpoint.origin), *job.item.checkpoint.origin.warnings, *planned.warnings),
        created=created,
        private=place.repo.private if place.repo else job.wish.private,
        license=planned.license_id,
        sent=_bytes_to_send(planned),
    )
