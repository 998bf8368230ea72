"""Names: references to repos, names of checkpoints, names of files in a repo.

A reference is `[hf://]org/name[@revision][:selector]`. A selector says which checkpoint of a repo: `latest`,
`best`, `best=METRIC`, `min=METRIC`, `epoch=N` or the NAME of one.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from metta_hub.errors import BadNameError, BadReferenceError, UsageError

SCHEME = "hf://"
#: Most bytes of a bundle's name: room for `.zip`, and for what its temporary file is called.
MAX_BUNDLE_NAME = 220
#: What can follow the colon of a reference, in words.
SELECTORS = "latest, best, best=METRIC, min=METRIC, epoch=N or a checkpoint's name"
#: Names that mean something else where a checkpoint's name could stand.
RESERVED = frozenset({"index", "latest", "best"})
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"

_NAME = re.compile(NAME_PATTERN)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
# The Hub's rule for both halves of a repo id (huggingface_hub 2.4, `validate_repo_id`): letters, digits, `-`,
# `_`, `.`; neither `-` nor `.` at either end; no `--`, no `..`; not `.git` at the end; 96 characters each.
_REPO_PART = re.compile(r"(?!.*(--|\.\.|\.git$))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
# What of git's rule for names of branches and tags keeps a revision from meaning another path in a URL.
_REVISION = re.compile(r"(?!.*(\.\.|//|/\.))[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,248}[A-Za-z0-9_-])?")
_DIGITS = re.compile(r"[0-9]{1,15}")
_RUN = re.compile(r"[^/\x00-\x1f\x7f\ud800-\udfff]+")
_AGENT = re.compile(r"(.+)__e([0-9]{1,15})__s([0-9]{1,15})__t([0-9]{1,15})__sc(-?[0-9]{1,15})")
_TRAILING_DIGITS = re.compile(r"(?<![0-9])[0-9]{1,15}\Z")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference.

    Attributes:
        namespace: the user or organisation; "" for a bare name, which means the caller's own.
        repo: the repo's own name.
        revision: branch, tag, `refs/pr/N` or commit; None when not given.
        selector: which checkpoint; None means the root.
    """

    namespace: str
    repo: str
    revision: str | None = None
    selector: str | None = None

    @property
    def repo_id(self) -> str:
        """`namespace/name`, or the bare name."""
        return f"{self.namespace}/{self.repo}" if self.namespace else self.repo

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        selector = f":{self.selector}" if self.selector else ""
        return f"{self.repo_id}{revision}{selector}"


def parse_reference(text: str) -> Reference:
    """Read `[hf://][org/]name[@revision][:selector]`.

    Raises:
        BadReferenceError: it is not one; says which part.
    """
    body = text.removeprefix(SCHEME)
    repo_and_revision, colon, selector = body.partition(":")
    repo_id, at, revision = repo_and_revision.partition("@")
    hint = "a reference looks like org/name, org/name@v1.0 or org/name@v1.0:best"
    if colon and not selector:
        raise BadReferenceError(text, "nothing follows the ':'", hint=hint)
    if at and not is_revision(revision):
        raise BadReferenceError(text, f"'{revision}' cannot be a revision", hint=hint)
    parts = repo_id.split("/")
    if len(parts) > 2:  # noqa: PLR2004  (namespace and name)
        raise BadReferenceError(text, "a repo id has one '/' at most", hint=hint)
    for part in parts:
        if not _REPO_PART.fullmatch(part):
            raise BadReferenceError(text, f"'{part}' cannot be part of a repo id", hint=hint)
    namespace = parts[0] if len(parts) == 2 else ""  # noqa: PLR2004
    return Reference(namespace, parts[-1], revision or None, _checked_selector(text, selector) if colon else None)


def is_revision(text: str) -> bool:
    """Whether a text can name a branch, a tag, a pull request's ref or a commit."""
    return bool(_REVISION.fullmatch(text))


def check_ref(text: str, what: str) -> str:
    """Return a name that git takes for a new branch or tag.

    Raises:
        UsageError: it does not.
    """
    if not is_revision(text) or text.endswith((".lock", ".")) or "/." in text or text.startswith("."):
        raise UsageError(f"'{text}' cannot be the name of a {what}.", hint="letters, digits, '.', '_', '-' and '/'")
    return text


def _checked_selector(text: str, selector: str) -> str:
    kind, equals, argument = selector.partition("=")
    if not equals:
        return selector if selector in {"latest", "best"} else _named(text, selector)
    if kind not in {"best", "min", "epoch"} or not argument:
        raise BadReferenceError(text, f"'{selector}' is not a selector", hint=f"a selector is {SELECTORS}")
    if kind == "epoch" and not (argument.isascii() and argument.isdigit() and len(argument) < 16):  # noqa: PLR2004
        raise BadReferenceError(text, f"'{argument}' is not an epoch", hint="for example org/name:epoch=140")
    return selector


def _named(text: str, name: str) -> str:
    try:
        return check_name(name)
    except BadNameError as error:
        reason = f"'{name}' cannot name a checkpoint: {error.reason}"
        raise BadReferenceError(text, reason, hint=f"a selector is {SELECTORS}") from None


def check_name(name: str) -> str:
    """Return `name` if it can name a checkpoint.

    Raises:
        BadNameError: it cannot; says why.
    """
    if not _NAME.fullmatch(name):
        reason = "letters, digits, '.', '_' and '-' only, at most 96, a letter or digit first"
        raise BadNameError(name, reason, hint="rename the file, for example to model_0100")
    if name.lower() in RESERVED:
        reason = "the word means something else in references"
        raise BadNameError(name, reason, hint=f"rename the file, for example to {name}_0100")
    return name


def checkpoint_name(original: str) -> str:
    """Make a checkpoint's NAME from a file's stem: what cannot stand in a name becomes `_`.

    A word that means something else in references gets one more: `best.pt` is `best_`.

    Raises:
        BadNameError: nothing usable is left.
    """
    name = _NOT_IN_NAMES.sub("_", original)[:96]
    if name and not name[0].isalnum():
        name = f"m{name}"[:96]
    return check_name(f"{name}_" if name.lower() in RESERVED else name)


def epoch_in(name: str) -> int | None:
    """The trailing digits of a checkpoint's name as an epoch: `model_0100` is 100. None without any.

    Digits must end the name (`v2_final` has no epoch): a number in the middle means something else. More than
    15 of them are no epoch either, but a time or a hash.
    """
    found = _TRAILING_DIGITS.search(name)
    return int(found.group()) if found else None


def stem(path: Path) -> str:
    """A file's name without what says its kind; the backup `NAME.pt.old` is `NAME`."""
    return Path(path.stem).stem if path.name.lower().endswith(".pt.old") else path.stem


def agent_facts(text: str) -> dict[str, int | float | str]:
    """What Metta wrote into the names of agents that it pickled alone, in September and October 2025.

    `RUN__eE__sS__tT__scC` has the epoch, the agent steps, whole seconds and ten thousand times the score; `RUN:vE` the
    epoch (specification of Metta's checkpoints, section 1.0). Empty for other names.
    """
    if found := _AGENT.fullmatch(text):
        run, epoch, steps, seconds, score = found.groups()
        facts: dict[str, int | float | str] = {
            "epoch": int(epoch),
            "agent_step": int(steps),
            "train_time": float(seconds),
        }
        return facts | {"run": run, "score": int(score) / 10_000}
    versioned = run_and_epoch(text)
    return {"epoch": versioned[1], "run": versioned[0]} if versioned else {}


def run_and_epoch(text: str) -> tuple[str, int] | None:
    """Read `RUN:vN`, as Metta names its checkpoints: the last `:v`, and digits to the end; dots belong to the run."""
    run, version, epoch = text.rpartition(":v")
    return (run, int(epoch)) if version and run and _DIGITS.fullmatch(epoch) else None


def bundle_name(run: str, epoch: int) -> str:
    """What Metta calls the bundle of a run's epoch.

    Raises:
        BadNameError: no folder or file can be called so.
    """
    name = f"{run}:v{epoch}"
    if epoch < 0:
        raise BadNameError(name[:MAX_BUNDLE_NAME], f"{epoch} is no epoch", hint="--epoch N says it, 0 or more")
    if len(name.encode()) > MAX_BUNDLE_NAME:
        reason = f"it has {len(name.encode())} bytes; {MAX_BUNDLE_NAME} are the most for a file's name"
        raise BadNameError(name[:MAX_BUNDLE_NAME], reason, hint="--run NAME says what to call it")
    if not run or run.startswith(".") or not _RUN.fullmatch(run):
        reason = "a run is called without '/' and control characters, and does not begin with a dot"
        raise BadNameError(name[:MAX_BUNDLE_NAME], reason, hint="--run NAME says what to call it")
    return name


# --- file names in a repo (design: section 4) -------------------------------------------------------------

CARD = "README.md"
CONFIG = "config.json"
PROBE = "probe.safetensors"
ROOT_WEIGHTS = "model.safetensors"
FOLDER = "checkpoints"
INDEX = f"{FOLDER}/index.json"


def root_pt(name: str) -> str:
    """Where the root's original `.pt` stands."""
    return f"{name}.pt"


def metadata_file(name: str) -> str:
    """Where a checkpoint's metadata stand."""
    return f"{FOLDER}/{name}.json"


def recipe_file(name: str) -> str:
    """Where a checkpoint's recipe stands."""
    return f"{FOLDER}/{name}.recipe"


def weights_file(name: str) -> str:
    """Where the weights of a checkpoint that is not the root stand."""
    return f"{FOLDER}/{name}.safetensors"


def stored_pt(name: str) -> str:
    """Where the original `.pt` of a checkpoint stands when a recipe would not pay."""
    return f"{FOLDER}/{name}.pt"
