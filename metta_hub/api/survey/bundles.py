"""Bundles as far as a survey looks into them: their specs and the names in them, judged as when they are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub.api.survey.places import File, Folder, Place
from metta_hub.containers import zips
from metta_hub.containers.zips import Read
from metta_hub.errors import MettaHubError
from metta_hub.formats import bundle, bundle_spec
from metta_hub.formats.bundle_spec import SPEC
from metta_hub.strict_json import JSON

#: When Metta wrote them (specification of today's bundles, sections 2 and 5).
SINCE, BEFORE = "since 2026-01-04", "2025-10-15 to 2026-01-03"
_TOO_LONG = "its policy_spec.json is too long for one"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says.

    Attributes:
        format: a bundle, or its predecessor.
        data: the weights, when they lie beside the spec and are known by their name alone; "" otherwise.
        policy: the class that it asks for; "" when that is not known.
        trouble: why it is not read; "" when nothing speaks against it.
    """

    format: str
    data: str
    policy: str
    trouble: str = ""


def in_folder(place: Place, folder: Folder) -> Bundle | None:
    """The bundle that a folder is; None when it is none, but perhaps a run whose last checkpoint a spec names."""
    spec = folder.file(SPEC)
    if spec is None or bundle.are_a_run(file.name for file in folder.files_in("")):
        return None
    if spec.size > bundle_spec.LIMITS.size:
        return Bundle(bundle.FORMAT, "", "", _TOO_LONG)
    try:
        with place.open(spec) as read:
            content = read(spec.size, 0)
        said, _ = bundle_spec.parse(content, spec.path)
        data = str(bundle_spec.data_path(said, spec.path))
        bundle.check_entries(folder.entries(), folder.path)
    except MettaHubError as error:
        return Bundle(bundle.FORMAT, "", "", _reason(error))
    except OSError as error:
        return Bundle(bundle.FORMAT, "", "", f"its policy_spec.json cannot be read: {error.strerror}")
    if "/" in data or data == SPEC:
        return Bundle(bundle.FORMAT, "", _kind(said))
    trouble = "" if folder.file(data) else "its data_path names a file that is not there"
    return Bundle(bundle.FORMAT, data, _kind(said), trouble)


def in_zip(file: File, read: Read) -> Bundle:
    """The bundle that a zip is which has a spec, or what came before specs, at its root."""
    path = Path(file.path)
    format_ = bundle.FORMAT
    try:
        archive = zips.look(read, file.size, path, zips.NOTES)
        members = bundle.members_of(archive, path)
        format_ = bundle.FORMAT if SPEC in members else bundle.MPT
        said, _ = bundle.spec_in(read, archive, members, path)
        is_there = str(bundle_spec.data_path(said, path)) in members
    except MettaHubError as error:
        return Bundle(format_, "", "", _reason(error))
    return Bundle(format_, "", _kind(said), "" if is_there else "its data_path names a file that is not in it")


def _kind(said: Mapping[str, JSON]) -> str:
    return str(said["class_path"]).rpartition(".")[2]


def _reason(error: MettaHubError) -> str:
    return str(getattr(error, "reason", error))[:160]
