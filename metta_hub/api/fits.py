"""fits: does a policy fit an environment? From metadata alone: no weight is read, and no torch needed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from metta_hub import formats, history, metadata
from metta_hub.actions import Actions
from metta_hub.api import interfaces, targets
from metta_hub.api.describe import metadata_of
from metta_hub.api.interfaces import Interface
from metta_hub.api.remote import RepoCommit, RepoFiles, RepoFolder
from metta_hub.api.report import Report, silent
from metta_hub.errors import UsageError
from metta_hub.formats import repo as repo_format
from metta_hub.metadata import Metadata
from metta_hub.strict_json import JSON

#: The component that gives features other numbers by their names.
_REMAPS = ".ObsTokenPadStrip"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing in which policy and environment differ; None where one of them has nothing."""

    where: str
    policy: str | None
    environment: str | None


@dataclass(frozen=True, slots=True)
class Fit:
    """The verdict; the fields of the `--json` output.

    Attributes:
        ok: whether nothing keeps the policy from acting there.
        differences: what does.
        notes: what differs and does no harm, and what nobody says.
    """

    ok: bool
    differences: tuple[Mismatch, ...]
    notes: tuple[str, ...]


def fits(
    target: Path | str,
    *,
    actions: str | None = None,
    environment: Path | str | None = None,
    like: Path | str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Fit:
    """Compare what a policy was trained for with an environment: actions by index, observations, features.

    Args:
        target: a path, or `[hf://]org/name[@revision][:selector]`.
        actions: names of the environment's action types, between commas.
        environment: a JSON file that describes it.
        like: another checkpoint: does the policy fit where that one was trained?
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what is being done.

    Raises:
        UsageError: not exactly one of the three is given, or it says nothing.
        NotFoundError: there is no such checkpoint.
    """
    if [actions, environment, like].count(None) != 2:  # noqa: PLR2004  (all but one of them)
        sentence = "Give one environment: --actions, --environment or --like."
        raise UsageError(sentence, hint="for example --actions noop,move,rotate")

    def read(text: Path | str, revision: str | None = None) -> Mapping[str, JSON]:
        return _read(text, revision, token, cache_dir, report).values

    values = read(target, revision)
    if actions is not None:
        wanted = interfaces.listed(actions)
    elif environment is not None:
        wanted = interfaces.in_file(targets.source(environment))
    else:
        wanted = interfaces.of_policy(read(str(like)))
    return compare(values, wanted)


def _read(
    target: Path | str, revision: str | None, token: str | None, cache_dir: Path | None, report: Report
) -> Metadata:
    """The metadata of a checkpoint; of a published one nothing else is fetched."""
    found = targets.parse(str(target), revision=revision, report=report)
    if isinstance(found, Path) and not repo_format.sniff(found):
        return formats.read(found).metadata
    repo: RepoFiles
    if isinstance(found, Path):
        repo, selector = RepoFolder(found), None
    else:
        repo = RepoCommit.open(found, "fits", typed=str(target), token=token, cache_dir=cache_dir)
        selector = found.selector
    return metadata_of(repo, history.select(repo.index, selector).entry)


def compare(values: Mapping[str, JSON], wanted: Interface) -> Fit:
    """Compare a policy's metadata with an environment."""
    own, info = interfaces.of_policy(values), metadata.model_info(values)
    found: list[Mismatch] = []
    notes: list[str] = []
    for what, mine, theirs, differences in (
        ("actions", own.actions, wanted.actions, _actions),
        ("observation shape", own.observation_shape, wanted.observation_shape, _shapes),
        ("features", own.features, wanted.features, _features),
    ):
        if theirs is None:
            continue
        if mine is None:
            notes.append(f"Nobody says the policy's {what}, so that was not compared.")
            continue
        differing, remarks = differences(own, wanted, info)
        found += differing
        notes += remarks
    return Fit(not found, tuple(found), tuple(notes))


_Compared = tuple[list[Mismatch], list[str]]


def _actions(own: Interface, wanted: Interface, info: Mapping[str, JSON]) -> _Compared:
    """Index by index; a policy that knows its actions by name takes them in any order."""
    both = own.actions or Actions(()), wanted.actions or Actions(())
    by_label = all(actions.max_params is not None for actions in both)
    mine, theirs = (actions.labels if by_label else actions.names for actions in both)
    pairs = enumerate(zip_longest(mine, theirs))
    differing = [Mismatch(f"action {index}", *pair) for index, pair in pairs if pair[0] != pair[1]]
    rows = info.get("action_embedding_rows")
    known = rows.keys() if isinstance(rows, dict) else set()
    if differing and known and all(any(_is_of(label, name) for label in known) for name in theirs):
        return [], ["The actions are others or in another order, and the policy knows each by its name."]
    return differing, []


def _is_of(label: str, name: str) -> bool:
    """Whether an action of the policy's is the one that is called so, or one of that type."""
    return label == name or label.rpartition("_")[0] == name


def _shapes(own: Interface, wanted: Interface, _info: Mapping[str, JSON]) -> _Compared:
    mine, theirs = own.observation_shape or (), wanted.observation_shape or ()
    if mine == theirs:
        return [], []
    return [Mismatch("observation shape", str(list(mine)), str(list(theirs)))], []


def _features(own: Interface, wanted: Interface, info: Mapping[str, JSON]) -> _Compared:
    mine, theirs = own.features or {}, wanted.features or {}
    remaps = _remaps(info)
    differing: list[Mismatch] = []
    for name in mine.keys() & theirs.keys():
        here, there = mine[name], theirs[name]
        if here.id != there.id and not remaps:
            differing.append(Mismatch(f"id of feature {name}", str(here.id), str(there.id)))
        if here.normalization != there.normalization and None not in {here.normalization, there.normalization}:
            divisors = f"{here.normalization:g}", f"{there.normalization:g}"
            differing.append(Mismatch(f"normalization of feature {name}", *divisors))
    missing = sorted(mine.keys() - theirs.keys())
    differing += [Mismatch(f"feature {name}", str(mine[name].id), None) for name in missing]
    return sorted(differing, key=lambda one: one.where), list(_remarks(own, wanted, remaps=remaps))


def _remarks(own: Interface, wanted: Interface, *, remaps: bool) -> Iterator[str]:
    mine, theirs = own.features or {}, wanted.features or {}
    if remaps and any(mine[name].id != theirs[name].id for name in mine.keys() & theirs.keys()):
        yield "Some features have other numbers, and the policy maps them by name."
    more = sorted(theirs.keys() - mine.keys())
    if more:
        yield f"The policy does not know {len(more)} of the features, and ignores them: {', '.join(more[:8])}."


def _remaps(info: Mapping[str, JSON]) -> bool:
    architecture = info.get("architecture")
    components = architecture.get("components") if isinstance(architecture, dict) else None
    parts = components.values() if isinstance(components, dict) else ()
    return any(isinstance(part, dict) and str(part.get("_target_")).endswith(_REMAPS) for part in parts)
