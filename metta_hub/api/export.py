"""export: a checkpoint → today's Metta bundle. fetch or read → find its spec → write."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub import disk, formats, history, metadata, names, strict_json
from metta_hub.api import sources, targets
from metta_hub.api.pull import fetch
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import Report, silent
from metta_hub.checkpoint import Checkpoint
from metta_hub.errors import ConflictError, FormatError, MetadataError, UsageError
from metta_hub.formats import bundle, bundle_spec, files
from metta_hub.formats.bundle_writer import ZIP
from metta_hub.metadata import JSON

#: Where mettagrid keeps what it unpacked from zips, by their paths and not by their content.
METTAGRID_CACHE = "/tmp/mettagrid-policy-cache"  # noqa: S108  (its own)
_OPTIONS = "--class-path and --init-kwargs name it, or --architecture-spec for Metta's own CheckpointPolicy"


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file of a bundle: its path in it, bytes, sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote; the fields of its `--json` output.

    Attributes:
        path: the folder or zip, absolute.
        files: what is in it.
    """

    path: Path
    files: tuple[ExportedFile, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user says of a bundle, where the metadata do not, or say otherwise.

    Attributes:
        run: what its run is called.
        epoch: its epoch.
        class_path: the class that runs the weights.
        init_kwargs: its arguments.
        architecture: the argument of Metta's own class: a call that makes the policy's configuration.
    """

    run: str | None = None
    epoch: int | None = None
    class_path: str | None = None
    init_kwargs: Mapping[str, JSON] | None = None
    architecture: str | None = None


def export(
    target: Path | str,
    out: Path | str,
    *,
    run: str | None = None,
    epoch: int | None = None,
    class_path: str | None = None,
    init_kwargs: Mapping[str, JSON] | None = None,
    architecture_spec: str | None = None,
    force: bool = False,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Exported:
    """Write a local or published checkpoint as a bundle that Metta's own loader takes.

    Args:
        target: a path, or `[hf://]org/name[@revision][:selector]`.
        out: a zip to write, if it ends in `.zip`; a bundle's folder, if it is called `RUN:vN`; else a folder to write
            `RUN:vN` into: as a folder, or as a zip if the run's name has a dot, because Metta of January 2026 does not
            read the names of such folders.
        run: what the run is called, instead of what the metadata say.
        epoch: as `run`.
        class_path: the class that runs the weights.
        init_kwargs: its arguments.
        architecture_spec: for Metta's own `CheckpointPolicy`: the call that makes the policy's configuration.
        force: replace another bundle.
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what is being done.

    Raises:
        NotFoundError: there is no such checkpoint.
        MetadataError: nothing says which class runs the weights, or what run and epoch they are of.
        ConflictError: something else is there, and `force` was not given.
        FormatError: the checkpoint is damaged, or its spec would run something.
    """
    if not str(out).strip():
        raise UsageError("An empty text is no place for a bundle.", hint="--bundle . writes it into this folder")
    out = Path(out).expanduser()
    if out.name.endswith(".mpt"):
        hint = f"--bundle {out.with_suffix(ZIP)}"
        raise UsageError("A bundle is a folder or a .zip; its predecessor .mpt is read and not written.", hint=hint)
    found = targets.parse(str(target), revision=revision, report=report)
    if isinstance(found, Path):
        checkpoint = formats.read(found)
    else:
        repo = RepoCommit.open(found, "export", typed=str(target), token=token, cache_dir=cache_dir)
        checkpoint = fetch(repo, history.select(repo.index, found.selector).entry, report=report)
    wanted = Wanted(run, epoch, class_path, init_kwargs, architecture_spec)
    spec = spec_for(checkpoint, wanted, report)
    report("note", f"Metta imports {spec['class_path']} when it loads this bundle")
    place = place_for(checkpoint, wanted, out, report)
    with (
        sources.unchanged(checkpoint.origin, "the file changed while it was being exported"),
        disk.writing(place, checkpoint.weights.nbytes, hint="--bundle names another place"),
    ):
        written = bundle.write(checkpoint, place, spec=spec, force=force)
    if written.replaced and place.name.endswith(ZIP):
        report("warning", f"Metta unpacks a zip once for each path: remove {METTAGRID_CACHE} before it loads this one.")
    listed = (ExportedFile(name, one.size, one.sha256) for name, one in written.files.items())
    return Exported(written.path, tuple(listed))


# --- what it says -------------------------------------------------------------------------------------------------


def spec_for(checkpoint: Checkpoint, wanted: Wanted, report: Report = silent) -> dict[str, JSON]:
    """The spec of a checkpoint's bundle: the one that it came with, and what the user says.

    Raises:
        MetadataError: nothing says which class runs the weights.
        FormatError: the spec that it came with would run something, or is none.
    """
    spec = _known_spec(checkpoint, report)
    if wanted.class_path is not None and wanted.class_path != spec.get("class_path"):
        spec = {"class_path": wanted.class_path}
    if wanted.architecture is not None:
        arguments: JSON = {"architecture_spec": wanted.architecture, "device": "cpu"}
        spec = {"class_path": wanted.class_path or bundle_spec.CHECKPOINT_POLICY, "init_kwargs": arguments}
    if wanted.init_kwargs is not None and spec:
        given = spec.get("init_kwargs") if wanted.architecture is not None else {}
        spec["init_kwargs"] = {**(given if isinstance(given, dict) else {}), **wanted.init_kwargs}
    if not spec:
        reason = "is not there, and nothing else says which class runs these weights"
        raise MetadataError(f"/{bundle_spec.KEY}", reason, path=checkpoint.name, hint=_OPTIONS)
    spec["data_path"] = _weights_name(spec)
    spec.setdefault("init_kwargs", {})
    spec.setdefault("setup_script", None)
    order = {field: spec[field] for field in ("class_path", "data_path", "init_kwargs")}
    return order | {key: value for key, value in spec.items() if key not in order}


def _known_spec(checkpoint: Checkpoint, report: Report) -> dict[str, JSON]:
    """The spec in the metadata, or the one beside a local file of the same run; {} when there is neither."""
    kept = checkpoint.metadata.values.get(bundle_spec.KEY)
    if kept is not None:
        label = f"{bundle_spec.KEY} in the metadata of {checkpoint.name}"
        if not isinstance(kept, dict):
            raise FormatError(label, "it is no object", hint=_OPTIONS)
        bundle_spec.check(kept, label)
        return dict(kept)
    beside = checkpoint.origin.path.parent / bundle_spec.SPEC
    if not checkpoint.origin.path.is_file() or not beside.is_file():
        return {}
    spec, _ = bundle_spec.parse(files.read_document(beside), beside)
    if _named_otherwise(checkpoint, str(spec["class_path"])):
        report("note", f"{beside} is of another class and is left aside")
        return {}
    report("note", f"class and arguments are those in {beside}")
    return spec


def _named_otherwise(checkpoint: Checkpoint, class_path: str) -> bool:
    """Whether the metadata name another class than a spec does."""
    told = metadata.model_info(checkpoint.metadata.values).get("type")
    return isinstance(told, str) and "." in class_path and told != class_path.rpartition(".")[2]


def _weights_name(spec: Mapping[str, JSON]) -> str:
    """What the weights are called, and so what they are: Metta's own class reads safetensors, others torch's files."""
    if spec["class_path"] == bundle_spec.CHECKPOINT_POLICY:
        return bundle_spec.CHECKPOINT_WEIGHTS
    if spec.get("data_path") is None:
        return "weights.pt"
    return bundle_spec.data_path(spec, bundle_spec.SPEC).name


# --- its place ----------------------------------------------------------------------------------------------------


def place_for(checkpoint: Checkpoint, wanted: Wanted, out: Path, report: Report = silent) -> Path:
    """Where the bundle goes.

    Raises:
        MetadataError: it needs a name of its own, and nothing says of which run or epoch it is.
        BadNameError: no folder can be called like the run.
    """
    if out.name.endswith(ZIP) or names.run_and_epoch(out.name):
        if not names.run_and_epoch(out.name.removesuffix(ZIP)):
            report("note", f"Metta reads run and epoch from a name like RUN:vN{ZIP}; {out.name} says neither")
        return out
    if out.is_file():
        raise ConflictError(str(out), f"{out} is a file.", hint="--bundle takes a folder, or a file that ends in .zip")
    values = checkpoint.metadata.values
    run = wanted.run if wanted.run is not None else values.get("run") or values.get("run_name")
    epoch = values.get("epoch") if wanted.epoch is None else wanted.epoch
    if not isinstance(run, str):
        raise MetadataError("/run_name", "is not known", path=checkpoint.name, hint="--run NAME says it")
    if type(epoch) is not int:
        raise MetadataError("/epoch", "is not known", path=checkpoint.name, hint="--epoch N says it")
    name = names.bundle_name(run, epoch)
    return out / (f"{name}{ZIP}" if "." in run else name)


# --- what the options say -----------------------------------------------------------------------------------------


def arguments_from(text: str) -> dict[str, JSON]:
    """The value of `--init-kwargs`: a JSON object, or a file with one.

    Raises:
        UsageError: it is neither.
    """
    is_json = text.lstrip().startswith(("{", "[", '"'))
    content = text.encode() if is_json else files.read_document(targets.source(text))
    try:
        value, repairs = strict_json.loads(content, "--init-kwargs", bundle_spec.LIMITS)
    except FormatError as error:
        raise UsageError(str(error), hint=_EXAMPLE) from None
    if repairs:
        raise UsageError(
            f"--init-kwargs has {repairs[0].was} at {repairs[0].pointer}, which JSON has no word for.", hint=_EXAMPLE
        )
    if not isinstance(value, dict):
        raise UsageError("--init-kwargs is no JSON object.", hint=_EXAMPLE)
    return value


_EXAMPLE = f"for example --init-kwargs '{json.dumps({'device': 'cpu'})}'"


def architecture_from(text: str) -> str:
    """The value of `--architecture-spec`: a call such as `pkg.Config(size=3)`, or a file with one.

    Raises:
        NotFoundError: it is no call, and there is no such file.
        FormatError: the file is no text.
    """
    if text.rstrip().endswith(")"):
        return text
    path = targets.source(text)
    spec = bundle_spec.of_architecture(files.read_document(path), bundle_spec.CHECKPOINT_WEIGHTS, path)
    arguments = spec["init_kwargs"]
    return str(arguments["architecture_spec"]).strip() if isinstance(arguments, dict) else ""
