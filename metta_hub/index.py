"""The index of a repo's checkpoints: `checkpoints/index.json`.

The file has one line a checkpoint: a publication changes that line and no other. Whoever reads it reads a
stranger's file: names and paths are checked before anything is done with them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from metta_hub import names, strict_json
from metta_hub.errors import BadNameError, ConflictError, FormatError, MetadataError
from metta_hub.metadata import JSON, Metadata, number, whole

FORMAT_VERSION = 1
"""Version of the file. Readers leave keys that they don't know; when a known one changes its meaning, raise
it, keep reading the old one, and put an old sample under tests/data."""

MAX_ENTRIES = 20_000

_LIMITS = strict_json.Limits(size=32 << 20, nodes=5_000_000)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file in a repo must be: its size in bytes and its sha256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint of a repo.

    Attributes:
        name: NAME.
        run_name: the training run it is from; None when nobody knows.
        epoch: training epochs; None when nobody knows.
        agent_step: environment steps over all agents; None when nobody knows.
        score: Metta's own measure, None when missing, as in the next two.
        avg_reward: mean reward of an agent over the evaluation episodes.
        reward_sem: standard error of `avg_reward`.
        evals: results by name, nested as in the metadata.
        eval_scores: the same from Metta's trainer, by category.
        parameters: elements of all tensors, tied ones once.
        files: path in the repo -> what must be there.
        published_at: when it was first published as it is, ISO 8601 with an offset.
    """

    name: str
    run_name: str | None
    epoch: int | None
    agent_step: int | None
    score: float | None
    avg_reward: float | None
    reward_sem: float | None
    evals: Mapping[str, JSON]
    eval_scores: Mapping[str, JSON]
    parameters: int
    files: Mapping[str, FileRecord]
    published_at: str


@dataclass(frozen=True, slots=True)
class Index:
    """The checkpoints of a repo, by epoch and then name, unknown epochs last.

    Attributes:
        root: the name of the checkpoint that the repo stands for; None when it stands for none.
        entries: all of them.
    """

    root: str | None
    entries: tuple[Entry, ...]


def parse(data: bytes) -> Index:
    """Read `checkpoints/index.json`.

    Raises:
        FormatError: not such a file, of a newer format, or beyond 32 MiB or 20,000 checkpoints.
        MetadataError: an entry is impossible; names its pointer.
    """
    value, repairs = strict_json.loads(data, names.INDEX, _LIMITS)
    listed = value.get("checkpoints") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(listed, list) or repairs:
        raise FormatError(names.INDEX, "not an index of checkpoints")
    version = value.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise FormatError(names.INDEX, "not of format 1", hint="pip install --upgrade metta-hub")
    if len(listed) > MAX_ENTRIES:
        raise FormatError(names.INDEX, f"more than {MAX_ENTRIES:,} checkpoints")
    root = value.get("root")
    entries = [_entry(item, f"/checkpoints/{place}", root) for place, item in enumerate(listed)]
    _check_unique(entries)
    if not isinstance(root, str):
        if root is not None:
            raise MetadataError("/root", "is no name")
        return Index(None, _sorted(entries))
    if all(entry.name != root for entry in entries):
        raise MetadataError("/root", "names none of the checkpoints")
    return Index(root, _sorted(entries))


def dumps(index: Index) -> bytes:
    """Write `checkpoints/index.json`: the same bytes for the same index, one line a checkpoint.

    Raises:
        MetadataError: a number in it is not finite.
    """
    lines = [_line(asdict(entry)) for entry in _sorted(index.entries)]
    listed = "\n    " + ",\n    ".join(lines) + "\n  " if lines else ""
    head = f'  "format_version": {FORMAT_VERSION},\n  "root": {_line(index.root)},\n'
    return f'{{\n{head}  "checkpoints": [{listed}]\n}}\n'.encode()


def entry_of(
    name: str,
    metadata: Metadata,
    *,
    parameters: int,
    files: Mapping[str, FileRecord],
    published_at: str,
) -> Entry:
    """The line of a checkpoint in the index; what its metadata lack or spoil is missing there too."""
    values = metadata.values
    evals, eval_scores = values.get("evals"), values.get("eval_scores")
    return Entry(
        name=name,
        run_name=_run_name(values),
        epoch=whole(values.get("epoch")),
        agent_step=whole(values.get("agent_step")),
        score=number(values.get("score")),
        avg_reward=number(values.get("avg_reward")),
        reward_sem=number(values.get("reward_sem")),
        evals=evals if isinstance(evals, dict) else {},
        eval_scores=eval_scores if isinstance(eval_scores, dict) else {},
        parameters=parameters,
        files=dict(files),
        published_at=published_at,
    )


def put(index: Index, entry: Entry, *, root: bool) -> Index:
    """Add a checkpoint, or replace the one of its name.

    With `root` it takes the place of the present root, whose files move below `checkpoints/`. `published_at`
    stays while nothing changes but the place of its files.

    Raises:
        ConflictError: another checkpoint's name differs in capitals only.
    """
    same = next((one for one in index.entries if one.name.lower() == entry.name.lower()), None)
    if same is not None and same.name != entry.name:
        sentence = f"'{entry.name}' differs from the published '{same.name}' in capitals only."
        raise ConflictError(same.name, sentence, hint=f"publish it as {same.name}, or under another name")
    if same is not None and replace(below(entry), published_at=same.published_at) == below(same):
        entry = replace(entry, published_at=same.published_at)
    new_root = entry.name if root else index.root
    entries = [*(one for one in index.entries if one is not same), entry]
    return Index(new_root, _sorted([one if one.name == new_root else below(one) for one in entries]))


def below(entry: Entry) -> Entry:
    """The checkpoint as it stands when it is not the root: every file below `checkpoints/`.

    The root's `.pt` is left out where a recipe gives it back.
    """
    files = dict(entry.files)
    if (weights := files.pop(names.ROOT_WEIGHTS, None)) is not None:
        files[names.weights_file(entry.name)] = weights
    original = files.pop(names.root_pt(entry.name), None)
    if original is not None and names.recipe_file(entry.name) not in files:
        files[names.stored_pt(entry.name)] = original
    return replace(entry, files=files)


def _sorted(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.epoch is None, entry.epoch or 0, entry.name)))


def _line(value: JSON) -> str:
    return strict_json.dumps(value, indent=None, sort_keys=True).decode().rstrip("\n")


def _run_name(values: Mapping[str, JSON]) -> str | None:
    """`run`, else `run_name`, into which Metta's trainer writes the name of the file ("model_0012.pt")."""
    run, run_name = values.get("run"), values.get("run_name")
    if isinstance(run, str):
        return run
    return run_name if isinstance(run_name, str) and not run_name.endswith(".pt") else None


# --- checking ---------------------------------------------------------------------------------------------


def _check_unique(entries: Sequence[Entry]) -> None:
    seen: set[str] = set()
    for place, entry in enumerate(entries):
        if entry.name.lower() in seen:
            raise MetadataError(f"/checkpoints/{place}/name", f"'{entry.name}' stands there twice")
        seen.add(entry.name.lower())


def _entry(value: JSON, at: str, root: JSON) -> Entry:
    if not isinstance(value, dict):
        raise MetadataError(at, "is no object")
    name = _name(value.get("name"), f"{at}/name")
    parameters, published_at = value.get("parameters"), value.get("published_at")
    if type(parameters) is not int or parameters < 0:
        raise MetadataError(f"{at}/parameters", "is no count")
    if not isinstance(published_at, str) or not _INSTANT.fullmatch(published_at):
        raise MetadataError(f"{at}/published_at", "is no time")
    files = _files(value.get("files"), f"{at}/files", _paths(name, root=name == root))
    weights = {names.ROOT_WEIGHTS, names.weights_file(name)} & files.keys()
    if names.metadata_file(name) not in files or len(weights) != 1:
        raise MetadataError(f"{at}/files", "lacks the metadata or the weights")
    entry = entry_of(name, Metadata(value), parameters=parameters, files=files, published_at=published_at)
    run_name = value.get("run_name")
    return replace(entry, run_name=run_name if isinstance(run_name, str) else None)


def _name(value: JSON, at: str) -> str:
    try:
        return names.check_name(value if isinstance(value, str) else "")
    except BadNameError as error:
        raise MetadataError(at, f"cannot name a checkpoint: {error.reason}") from None


def _paths(name: str, *, root: bool) -> set[str]:
    """Where the files of a checkpoint may stand."""
    makers = (names.metadata_file, names.recipe_file, names.weights_file, names.stored_pt)
    paths = {maker(name) for maker in makers}
    return paths | {names.ROOT_WEIGHTS, names.root_pt(name)} if root else paths


def _files(value: JSON, at: str, paths: set[str]) -> dict[str, FileRecord]:
    if not isinstance(value, dict):
        raise MetadataError(at, "is no object")
    found = {}
    for path, file in value.items():
        if path not in paths:
            raise MetadataError(at, "names a file that cannot be this checkpoint's")
        size, sha256 = (file.get("size"), file.get("sha256")) if isinstance(file, dict) else (None, None)
        if type(size) is not int or size < 0 or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise MetadataError(strict_json.join(at, path), "is no size and sha256")
        found[path] = FileRecord(size, sha256)
    return found
