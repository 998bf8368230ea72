"""A checkpoint turned into the files of a repo, in a folder of its own, hashed while they are written."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from metta_hub import disk, metadata, names
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import Report, silent, working
from metta_hub.checkpoint import Checkpoint
from metta_hub.containers import copying, recipe, safetensors, torch_file
from metta_hub.containers.copying import Written
from metta_hub.errors import FormatError
from metta_hub.formats import originals
from metta_hub.formats import repo as repo_format
from metta_hub.index import FileRecord

MIRROR = "model.safetensors"


@dataclass(frozen=True)
class Materials:
    """The weights of one checkpoint, ready to be published as the root or as another.

    Attributes:
        records: size and sha256 by path, as the files of a root.
        contents: where the bytes of each are; a path that the Hub is known to hold may be missing.
        weights: of the original `.pt`, or of the mirror when there is no `.pt`.
        weights_file: the name under which a pair says so.
        proof: what the comparison of mirror and original found, in words; "" when there was nothing to compare.
    """

    records: Mapping[str, FileRecord]
    contents: Mapping[str, bytes | Path]
    weights: Written
    weights_file: str
    proof: str = ""


def make(checkpoint: Checkpoint, folder: Path, *, keep_pt: bool, report: Report = silent) -> Materials:
    """Write the mirror, make the recipe, and prove that the mirror equals the original.

    Args:
        checkpoint: its weights are read range by range; no more than a few MiB are in memory.
        folder: where the mirror is written.
        keep_pt: publish the original `.pt` too (when there is one).
        report: shown how far the work is.

    Raises:
        FormatError: a checksum is wrong, or the mirror is not equal.
        FileError: the mirror cannot be written.
    """
    name = checkpoint.name
    pt = _original(checkpoint, folder) if keep_pt else None
    mirror, size = folder / MIRROR, checkpoint.weights.nbytes
    with ThreadPoolExecutor(max_workers=1) as pool, working(report, "convert", lambda: [mirror], size):
        hashed = pool.submit(copying.digest, pt) if pt else None
        with disk.writing(folder.parent, size, what=f"the mirror of {name}", hint=disk.ELSEWHERE):
            written = safetensors.write(checkpoint.weights, mirror)
        original = hashed.result() if hashed else None
    with working(report, "prove"):
        proof = _prove(checkpoint, mirror)
    records = {names.ROOT_WEIGHTS: _record(written)}
    contents: dict[str, bytes | Path] = {names.ROOT_WEIGHTS: mirror}
    if original is None or pt is None:
        return Materials(records, contents, written, f"{name}.safetensors", proof)
    records[names.root_pt(name)] = _record(original)
    contents[names.root_pt(name)] = pt
    rest = recipe.make(torch_file.read(pt), original)
    if recipe.worthwhile(len(rest), original.size):
        records[names.recipe_file(name)] = _record(copying.digest_bytes(rest))
        contents[names.recipe_file(name)] = rest
    return Materials(records, contents, original, f"{name}.pt", proof)


def _original(checkpoint: Checkpoint, folder: Path) -> Path | None:
    """The `.pt` to publish: as it was read, as an archive or a recipe gives it back, or as migration makes it."""
    origin = checkpoint.origin
    if origin.pt is not None or (origin.packed is None and origin.recipe is None and not origin.migrates):
        return origin.pt
    made = folder / "original.pt"
    what = f"the original of {checkpoint.name}"
    with disk.writing(folder.parent, checkpoint.weights.nbytes, what=what, hint=disk.ELSEWHERE):
        originals.write_pt(checkpoint, made)
    return made


def known(checkpoint: Checkpoint, repo: RepoCommit, *, keep_pt: bool) -> Materials | None:
    """The materials of a checkpoint that a repo holds already: then its `.pt` is hashed, and nothing is made.

    Returns:
        None when the repo does not hold these weights under that name, in the same files.
    """
    name, pt = checkpoint.name, checkpoint.origin.pt
    entry = next((entry for entry in repo.index_if_any().entries if entry.name == name), None)
    if entry is None or pt is None or not keep_pt:
        return None
    document = names.metadata_file(name)
    weights = metadata.parse(repo.document(document), document).block.get("weights")
    if not isinstance(weights, dict) or weights.get("file") != f"{name}.pt" or weights.get("size") != pt.stat().st_size:
        return None
    mirror, kept = entry.files[repo_format.weights_path(entry)], names.recipe_file(name)
    if not any(file.sha256 == mirror.sha256 for file in repo.tree.values()):
        return None
    digest = copying.digest(pt)
    if digest.sha256 != weights.get("sha256"):
        return None
    records = {names.ROOT_WEIGHTS: mirror, names.root_pt(name): _record(digest)}
    if kept in entry.files and kept in repo.tree:
        records[kept] = entry.files[kept]
    return Materials(records, {names.root_pt(name): pt}, digest, f"{name}.pt")


def _prove(checkpoint: Checkpoint, mirror: Path) -> str:
    """Compare what was written with what it was written from, tensor by tensor, byte by byte."""
    results = copying.compare(checkpoint.weights, safetensors.read(mirror))
    different = [result.name for result in results if not result.equal]
    if different:
        raise FormatError(mirror, f"the mirror differs from the original in {', '.join(different[:5])}")
    of = "the .pt" if checkpoint.origin.pt else "the source"
    return f"mirror equals {of} in {len(results)} of {len(results)} tensors"


def _record(written: Written) -> FileRecord:
    return FileRecord(written.size, written.sha256)
