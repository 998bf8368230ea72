"""The look that a push begins with: what is there, what of it may be published, and the files for that."""

from pathlib import Path

from metta_hub import formats
from metta_hub.api import judging, materials, probes, sources, targets
from metta_hub.api.judging import Filling, Publishable
from metta_hub.api.materials import Materials
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import Report, count, working
from metta_hub.names import PROBE
from metta_hub.scrub import Redaction

CHANGED = "the file changed while it was being published; nothing was published"


def look(path: Path, filling: Filling, report: Report, *, pt: bool) -> Publishable:
    """Read a checkpoint and decide what of it is published.

    Args:
        path: the checkpoint.
        filling: what its metadata lack.
        report: told what was read, and what was removed.
        pt: whether the original `.pt` is published, too.

    Raises:
        MettaHubError: it cannot be read, or not be published.
    """
    source = formats.read(path)
    known, weights = source.metadata.values, source.weights
    epoch = known.get("epoch")
    read = [
        source.origin.format,
        count(len(weights.tensors), "tensor"),
        count(weights.parameters, "parameter"),
    ]
    report("read", ", ".join([*read, f"epoch {epoch if isinstance(epoch, int) else 'unknown'}"]))
    with sources.unchanged(source.origin, CHANGED):
        item = judging.judge(source, filling, pt=pt)
    if isinstance(assumed := item.block.get("assumed"), list):
        report("warning", f"assumed of its architecture, and not known: {', '.join(map(str, assumed))}.")
    for redaction in item.redactions:
        report("clean", _redaction_in_words(item, redaction))
    return item


def probe(item: Publishable, wanted: bool | Path, folder: Path, report: Report) -> Path | None:
    """The probe to publish, if one is wanted: made here, or recorded elsewhere.

    Raises:
        MettaHubError: as `probes.make`.
    """
    if wanted is False:
        return None
    recorded = None if wanted is True else targets.source(wanted)
    with sources.unchanged(item.checkpoint.origin, CHANGED):
        return probes.make(item.checkpoint, recorded, folder / PROBE, report)


def _redaction_in_words(item: Publishable, redaction: Redaction) -> str:
    if redaction.pointer == "/uri" and item.uri is not None:
        return f"/uri: {_shortened(item.uri)} → {item.checkpoint.metadata.values['uri']}"
    return f"{redaction.pointer}: {redaction.kind} removed"


def _shortened(uri: str) -> str:
    """`file:///home/…/model_0100.pt`: enough to recognise a path, not enough to give it away."""
    parts = uri.split("/")
    return "/".join([*parts[:4], "…", parts[-1]]) if len(parts) > 5 else uri  # noqa: PLR2004  (file: "" "" home … name)


class Files:
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
