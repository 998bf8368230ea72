"""What can be done with what was found: whether push takes it, inspect shows it, from_pretrained builds it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metta_hub import architecture, formats, metadata, names, policies
from metta_hub import index as index_file
from metta_hub.api import migrating
from metta_hub.api.survey import bundles
from metta_hub.api.survey.bundles import Bundle
from metta_hub.api.survey.grouping import Candidate
from metta_hub.api.survey.look import Looked, look
from metta_hub.api.survey.places import File, Place
from metta_hub.errors import MettaHubError
from metta_hub.formats import bundle, pair, record, repo, safetensors_file, sharded, state_dict
from metta_hub.metadata import JSON, Metadata

#: What the weights of a bundle may be.
_WEIGHTS = frozenset({state_dict.FORMAT, safetensors_file.FORMAT})
#: Longest document that is read for what it says.
MAX_DOCUMENT = 64 << 10


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """One checkpoint of a survey, or what only looks like one; the fields of `scan --json`.

    Attributes:
        path: the file, or the folder; of a pair its `.pt`.
        format: the on-disk shape.
        era: when Metta wrote such files, where that is known.
        files: how many files it is made of.
        bytes: of all of them.
        epoch: from its metadata or its name; None when neither has one.
        publish: whether push takes it, as far as was looked.
        describe: whether inspect shows its tensors and metadata.
        run: whether from_pretrained can build it.
        migrate: whether migrate would make a pair of it.
        reason: why one of the three is not so; None when all are.
    """

    path: str
    format: str
    era: str | None
    files: int
    bytes: int
    epoch: int | None
    publish: bool
    describe: bool
    run: bool
    migrate: bool
    reason: str | None


class Judge:
    """Looks at candidates and judges them; what can be built is asked once, and torch not imported for it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._formats = {*(module.FORMAT for module in formats.FORMATS), bundle.MPT}
        self._architectures = frozenset(policies.known())

    def judge(self, candidate: Candidate) -> ScannedFile | None:
        """Judge a candidate; None when there is no checkpoint in it.

        Raises:
            OSError: it cannot be read.
        """
        looked = self._look(candidate)
        if not looked.format:
            return None
        trouble = looked.trouble or candidate.missing
        if not trouble and looked.format not in self._formats:
            trouble = f"metta-hub does not read {looked.format}s yet"
        hindrance = trouble or _unprintable_name(candidate)
        unbuilt = _why_not_run(looked, self._architectures)
        return ScannedFile(
            path=candidate.path,
            format=looked.format,
            era=looked.era,
            files=candidate.files,
            bytes=candidate.bytes,
            epoch=_epoch_in(candidate) if looked.epoch is None else looked.epoch,
            publish=not hindrance,
            describe=not trouble,
            run=not trouble and not unbuilt,
            migrate=looked.format in migrating.FORMATS and not candidate.is_new,
            reason=hindrance or unbuilt or None,
        )

    def _look(self, candidate: Candidate) -> Looked:
        if candidate.kind == "sharded":
            return Looked(sharded.FORMAT)
        if candidate.kind == "repo":
            return self._repo(candidate)
        with self._place.open(candidate.main) as read:
            looked = look(candidate.main, read)
        if candidate.bundle is not None:
            return _bundle(candidate, candidate.bundle, looked)
        return looked if candidate.document is None else self._pair(candidate, looked, candidate.document)

    def _repo(self, candidate: Candidate) -> Looked:
        content = self._content(candidate.main)
        if content is None:
            return Looked(repo.FORMAT)
        try:
            index = index_file.parse(content)
        except MettaHubError as error:
            return Looked(repo.FORMAT, trouble=_without_values(error))
        root = next((entry for entry in index.entries if entry.name == index.root), None)
        return Looked(repo.FORMAT, epoch=None if root is None else root.epoch)

    def _pair(self, candidate: Candidate, looked: Looked, document: File) -> Looked:
        """A plain `.pt` with a JSON beside it is a pair; others are what they are without."""
        if looked.format != state_dict.FORMAT:
            return looked
        content = self._content(document)
        if content is None:
            return Looked(pair.FORMAT)
        try:
            known = metadata.parse(content, document.path)
        except MettaHubError as error:
            return Looked(pair.FORMAT, trouble=f"its JSON is no metadata: {_without_values(error)}")
        return _described(known, candidate)

    def _content(self, file: File) -> bytes | None:
        """A document whole; None when it is too long for that."""
        if file.size > MAX_DOCUMENT:
            return None
        with self._place.open(file) as read:
            return read(file.size, 0)


def _bundle(candidate: Candidate, found: Bundle, looked: Looked) -> Looked:
    """A bundle by its spec and by the beginning of its weights."""
    trouble = found.trouble
    if not trouble and candidate.main.name == found.data and looked.format not in _WEIGHTS:
        trouble = looked.trouble or "its weights are neither a safetensors file nor one of torch.save"
    return Looked(found.format, bundles.SINCE, found.policy or None, trouble=trouble)


def _described(known: Metadata, candidate: Candidate) -> Looked:
    """A pair by what its metadata say."""
    epoch, info = known.values.get("epoch"), metadata.model_info(known.values)
    kind = info.get("type")
    kind = kind if isinstance(kind, str) else None
    weights: Any = known.block.get("weights")
    is_of_other = (
        isinstance(weights, Mapping)
        and weights.get("file") == candidate.main.name
        and weights.get("size") != candidate.main.size
    )
    return Looked(
        pair.FORMAT,
        architecture=kind,
        epoch=epoch if type(epoch) is int else None,
        trouble="its JSON describes a .pt of another size" if is_of_other else "",
        unbuilt=_unbuilt(info) if policies.BUILT_IN.get(kind or "") == policies.METTA_AGENT else "",
    )


def _unbuilt(info: Mapping[str, JSON]) -> str:
    """Why no agent of Metta's is built from metadata, as far as they alone tell."""
    if info.get("architecture") is None:
        return "its metadata hold no component graph; that of a shipped agent is recognised when it is loaded"
    try:
        architecture.parse(info["architecture"])
    except MettaHubError as error:
        return _without_values(error)
    return ""


def _why_not_run(looked: Looked, architectures: frozenset[str]) -> str:
    """Why the policy cannot be built, as far as was looked; empty when nothing speaks against it."""
    if looked.architecture in architectures:
        other = looked.format == record.FORMAT and looked.era in {record.OLDEST, record.BARE}
        return "agents of its time may have parts that nothing here builds" if other else looked.unbuilt
    if looked.architecture is not None:
        return f"nothing here builds the architecture '{looked.architecture[:80]}'"
    if looked.format in {record.FORMAT, repo.FORMAT}:
        return "its first bytes do not say which architecture it has"
    return "it does not say which architecture it has"


def _unprintable_name(candidate: Candidate) -> str:
    """Why a checkpoint of that name is shown, and not published: its metadata would have to say where it is from."""
    is_text = candidate.path.isascii() or not re.search("[\udc80-\udcff]", _stem(candidate))
    return "" if is_text else "its name is not UTF-8"


def _epoch_in(candidate: Candidate) -> int | None:
    stem = _stem(candidate)
    told = names.agent_facts(stem).get("epoch")
    return told if isinstance(told, int) else names.epoch_in(stem)


def _stem(candidate: Candidate) -> str:
    """A checkpoint's name without what says its kind."""
    name = candidate.path.rstrip("/").rpartition("/")[2]
    if candidate.kind == "bundle":
        return name
    return name.removesuffix(sharded.ENDING) if name.endswith(sharded.ENDING) else names.stem(Path(name))


def _without_values(error: MettaHubError) -> str:
    """Why, in words that are the same for others of the kind."""
    return str(getattr(error, "reason", error))[:160]
