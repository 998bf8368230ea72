"""Writing a bundle: a folder or a zip, complete under a hidden name beside its place before it is put there.

A zip is stored and has no times in it, so the same checkpoint gives the same bytes in any process; it is not deflated,
because weights hardly get smaller, and other builds of zlib give other bytes.
"""

import contextlib
import glob
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub.checkpoint import Checkpoint
from metta_hub.containers import copying, safetensors
from metta_hub.containers.copying import Written
from metta_hub.errors import ConflictError
from metta_hub.formats import bundle_spec, files, originals
from metta_hub.formats.bundle_spec import SPEC
from metta_hub.metadata import JSON

ZIP = ".zip"
_OWNER, _FORMER = "owner.lock", "former"
_PERMISSIONS = stat.S_IFREG | 0o644
#: The first moment that a zip can name.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class BundleFiles:
    """A bundle on disk.

    Attributes:
        path: the folder or zip.
        files: size and sha256 by the name in it.
        replaced: whether other content was there before.
    """

    path: Path
    files: Mapping[str, Written]
    replaced: bool


def write(checkpoint: Checkpoint, target: Path, *, spec: Mapping[str, JSON], force: bool = False) -> BundleFiles:
    """Write a checkpoint as a bundle; one that is there already and equal is left alone.

    Args:
        checkpoint: its weights become safetensors, or a `.pt` where `data_path` does not end in `.safetensors`.
        target: the zip, if its name ends in `.zip`; else the folder.
        spec: what stands in policy_spec.json; its `data_path` is a plain file name.
        force: replace another bundle.

    Raises:
        ConflictError: other content is there, and `force` was not given; or a folder has files of somebody else.
        FormatError: the spec is none that we would read.
        NotPlainError: the recipe gives back a `.pt` that asks for more than tensors.
    """
    bundle_spec.check(spec, SPEC)
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as work:
        made = work / "bundle"
        made.mkdir()
        found = _fill(checkpoint, made, spec)
        finished = _zipped(made, work / f"bundle{ZIP}") if target.name.endswith(ZIP) else made
        if _same(finished, target, found):
            return BundleFiles(target, found, replaced=False)
        replaced = _check_place(target, found, force=force)
        for path in (*made.iterdir(), finished, work):
            files.sync(path)
        _put(finished, target, work)
    return BundleFiles(target, found, replaced)


def _fill(checkpoint: Checkpoint, folder: Path, spec: Mapping[str, JSON]) -> dict[str, Written]:
    data, content = str(spec["data_path"]), bundle_spec.dumps(spec)
    weights = folder / data
    if data.endswith(".safetensors"):
        written = safetensors.write(checkpoint.weights, weights, bare=True)
    else:
        written, _ = originals.write_pt(checkpoint, weights)
    (folder / SPEC).write_bytes(content)
    return dict(sorted({data: written, SPEC: copying.digest_bytes(content)}.items()))


def _zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for source in sorted(folder.iterdir()):
            info = zipfile.ZipInfo(source.name, _NO_TIME)
            info.create_system, info.external_attr = 3, _PERMISSIONS << 16  # Unix
            info.file_size = source.stat().st_size
            with source.open("rb") as bytes_, archive.open(info, "w") as member:
                shutil.copyfileobj(bytes_, member, _BLOCK)
    return target


# --- its place ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A hidden folder to work in, on the same disk; what processes that died have left in theirs is put right."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{files.SUFFIX}"):
        _put_right(left, target)
    with contextlib.ExitStack() as held:
        work = _made(target, held)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _made(target: Path, held: contextlib.ExitStack) -> Path:
    while True:
        work = files.temporary_name(target, files.new_token())
        work.mkdir()
        try:
            held.enter_context(files.owned(work / _OWNER))
        except FileNotFoundError:  # taken for left before it had an owner
            continue
        return work


def _put_right(left: Path, target: Path) -> None:
    with files.abandoned([left / _OWNER]) as free:
        if free:
            if (left / _FORMER).exists() and not target.exists():
                (left / _FORMER).rename(target)
            shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(OSError):
        left.rmdir()  # of one that died before it had an owner; refused when there is anything in it


def _same(made: Path, target: Path, found: Mapping[str, Written]) -> bool:
    try:
        if made.is_file():
            return target.is_file() and copying.digest(target) == copying.digest(made)
        return target.is_dir() and all(copying.digest(target / name) == written for name, written in found.items())
    except OSError:
        return False


def _check_place(target: Path, found: Mapping[str, Written], *, force: bool) -> bool:
    """Whether something is there that is replaced.

    Raises:
        ConflictError: something is there, and may not be replaced.
    """
    if not target.exists() and not target.is_symlink():
        return False
    if target.name.endswith(ZIP) != target.is_file():
        kind = "a folder" if target.is_dir() else "a file"
        raise ConflictError(str(target), f"{target} is {kind}.", hint="name another place with --bundle")
    if target.is_dir():
        there = {path.name for path in target.iterdir()}
        others = sorted(there - found.keys() - _weights_of(target))
        if others:
            sentence = f"{target} holds other files, too: {', '.join(others[:5])}."
            raise ConflictError(str(target), sentence, hint="name another place with --bundle")
        if not there:
            return False
    if not force:
        hint = "--force replaces it; or name another place with --bundle"
        raise ConflictError(str(target), f"{target} holds something else.", hint=hint)
    return True


def _weights_of(folder: Path) -> set[str]:
    """The weights that the spec in a folder names."""
    try:
        spec, _ = bundle_spec.parse(files.read_document(folder / SPEC), folder / SPEC)
        return {str(bundle_spec.data_path(spec, folder / SPEC))}
    except Exception:  # noqa: BLE001  (whatever is wrong with it, it names none)
        return set()


def _put(made: Path, target: Path, work: Path) -> None:
    """Put a bundle in its place. A folder that is replaced is gone for a moment: no call exchanges two."""
    if target.is_dir():
        target.rename(work / _FORMER)
    made.replace(target)
    files.sync(target.parent)
