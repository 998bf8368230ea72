"""The store: policies by uri, from disk and from the Hub; what was used last is kept."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from metta_hub import metadata
from metta_hub.api import from_pretrained as loading
from metta_hub.api import migrate, save, sources, targets
from metta_hub.api.report import Report
from metta_hub.checkpoint import Origin
from metta_hub.errors import BadTypeError, BadValueError
from metta_hub.metadata import Metadata
from metta_hub.store import choosing, places
from metta_hub.store.cache import RecordCache
from metta_hub.store.choosing import Candidate
from metta_hub.store.config import checkpoint_dir, setting
from metta_hub.store.places import Access
from metta_hub.store.policy_metadata import DEFAULTS, PolicyMetadata
from metta_hub.store.policy_record import FILE, PolicyRecord

if TYPE_CHECKING:
    from metta_hub.policies import Module

#: Policies that are kept when the config says nothing.
CACHE_SIZE = 10

_CHANGED = "it changed after its record was loaded; load the record again"

_log = logging.getLogger("metta_hub.store")
_log.addHandler(logging.NullHandler())  # without it Python would print warnings where nobody set up a log
_LEVELS: Mapping[str, Callable[[str], None]] = {"warning": _log.warning}


def _logged(verb: str, text: str) -> None:
    """A report in Python's own log, where Metta's store has it, too."""
    _LEVELS.get(verb, _log.info)(text)


class PolicyStore:
    """Loads, chooses and saves policies.

    Args:
        config: anything with attributes or keys; read are `device`, `policy_cache_size` (10), `assume_preset`, and, for
            new records, `trainer`, `run_dir`, `data_dir` and `run`.
        wandb_run: kept as it is: policies are not sent to W&B.
        token: for the Hub, instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what is chosen and what is left out; the log `metta_hub.store` when not given.

    Raises:
        BadValueError: `policy_cache_size` is less than 1 (a ValueError).
    """

    def __init__(
        self,
        config: object = None,
        wandb_run: object = None,
        *,
        token: str | None = None,
        cache_dir: Path | None = None,
        report: Report = _logged,
    ) -> None:
        self.wandb_run = wandb_run
        self._config = config
        self._access = Access(token, cache_dir, report)
        size = setting(config, "policy_cache_size")
        self._cache = RecordCache(CACHE_SIZE if size is None else size)
        self._loading = RLock()

    # --- finding ---

    def load_from_uri(self, uri: str | Path) -> PolicyRecord:
        """Find one policy. Its module is loaded when `record.policy` is asked for.

        Args:
            uri: `file://PATH` or a path: a checkpoint of any format, or a folder, of which the newest is taken;
                `hf://org/name[@revision][:selector]`; `pytorch://PATH`, a bare state dict.

        Raises:
            BadValueError: no such scheme; for `wandb://` the hint says what to do (a ValueError).
            NotFoundError: nothing is there.
            NotARecordError: it is no checkpoint (a ValueError).
        """
        uri = str(uri)
        known = self._known(uri)
        if known is not None:
            return known
        if uri.startswith(places.HUB):
            return self._record(places.one_of_repo(uri, self._access), None)
        found = places.look(uri, self._access)
        return self._record(found.candidates[0], found.origins.get(found.candidates[0].uri))

    def policy_record(
        self, uri_or_config: object, selector_type: str = "top", metric: str = choosing.SCORE
    ) -> PolicyRecord:
        """Choose exactly one of the policies at a uri; as `policy_records`.

        Raises:
            BadValueError: several are left, as with `all` (a ValueError).
        """
        found = self.policy_records(uri_or_config, selector_type, n=1, metric=metric)
        if len(found) == 1:
            return found[0]
        sentence = f"'{selector_type}' leaves {len(found)} policies where one is wanted."
        raise BadValueError("selector_type", sentence, hint="policy_records gives them all; or select latest or top")

    def policy_records(
        self, uri_or_config: object, selector_type: str = "top", n: int = 1, metric: str = choosing.SCORE
    ) -> list[PolicyRecord]:
        """Choose among the policies at a uri: all in a folder, or all of a repo. None is loaded.

        Args:
            uri_or_config: as for `load_from_uri`, or something with such a `uri`.
            selector_type: `all`, newest first; `latest`, the newest by epoch and agent steps; `rand`; or `top`, the
                `n` with the highest `metric`. When fewer than four fifths have the metric, `top` is the newest.
            n: how many, for `top`.
            metric: looked for in `eval_scores`, at the top level, in `evals` and Metta's groups inside it. Of policies
                that all lack a `score`, the mean of `evals` or else `avg_reward` decides.

        Raises:
            NoRecordsError: there are none (a ValueError).
            BadValueError: no such scheme or selector (a ValueError).
        """
        found = places.look(_uri_of(uri_or_config), self._access)
        chosen = choosing.choose(found.candidates, selector_type, n, metric, self._access.report)
        return [self._record(one, found.origins.get(one.uri)) for one in chosen]

    def load_policy(self, record: PolicyRecord) -> "Module":
        """The module of a record, loaded once for all records of its uri; `record.policy` is this.

        Raises:
            SourceChangedError: the file is not the one that the record's metadata are of.
            MettaHubError: as `metta_hub.from_pretrained`.
        """
        uri = str(record.uri)
        with self._loading:  # one at a time: two at once would need the memory of both
            if record.cached_policy is None:
                shared = self._shared(uri, record)
                record.policy = self._load(uri, record) if shared is None else shared
                if record.origin is not None or record.source is not None:
                    self._cache.put(uri, record)
            return record.policy

    def _shared(self, uri: str, record: PolicyRecord) -> "Module | None":
        """The module that another record of the same files holds."""
        path = places.local_path(uri)
        if path is not None and record.origin is None:
            record.origin = places.describe(targets.source(path)).origin
        if record.origin is not None:
            sources.require_unchanged(record.origin, _CHANGED)
        known = self._held(uri)
        return None if known is None else known.cached_policy

    def _load(self, uri: str, record: PolicyRecord) -> "Module":
        path, origin = places.local_path(uri), record.origin
        device = str(setting(self._config, "device") or "cpu")
        load = partial(
            loading.from_pretrained, device=device, assume_preset=bool(setting(self._config, "assume_preset"))
        )
        if path is None or origin is None:
            return load(uri, token=self._access.token, cache_dir=self._access.cache_dir)
        with sources.unchanged(origin, _CHANGED):
            return load(path)

    # --- making and saving ---

    def make_model_name(self, epoch: int) -> str:
        """What the file of an epoch is called: `model_0100.pt`."""
        return f"model_{epoch:04d}.pt"

    def create_empty_policy_record(self, name: str, override_path: str | Path | None = None) -> PolicyRecord:
        """Make the record of a policy that is still to be trained; nothing is written.

        Args:
            name: its file's name, as `make_model_name` gives it.
            override_path: the file, instead of one in the trainer's folder.

        Raises:
            MissingFieldError: the config does not say where checkpoints go (an AttributeError).
        """
        path = Path(override_path) if override_path is not None else checkpoint_dir(self._config) / name
        return PolicyRecord(self, name, f"{FILE}{path}", PolicyMetadata())

    def save(self, record: PolicyRecord, path: str | Path | None = None) -> PolicyRecord:
        """Write a record's policy as a pair, both files or neither; one that is there is replaced.

        Afterwards the record's uri is the file that was written, and its policy is no longer held.

        Args:
            record: with its policy set, or loadable.
            path: the pair's `.pt`; that of the record's uri when not given.

        Raises:
            BadValueError: there is no policy, or no path (a ValueError).
            BadTypeError: the policy is no module (a TypeError).
            MettaHubError: it cannot be written.
        """
        target = Path(path if path is not None else record.file_path).expanduser()
        if target.suffix == ".json":
            target = target.with_suffix(".pt")
        if target.suffix != ".pt":
            target = target.with_name(f"{target.name}.pt")
        policy = record.cached_policy if record.cached_policy is not None else self._stored(record)
        written = save.save(policy, _metadata_of(record), target)
        found = places.describe(written.pt)
        record.uri = f"{FILE}{written.pt}"
        record.policy = None
        record.policy_store, record.origin, record.source = self, found.origin, found.metadata
        record.metadata.update(_items(found.metadata))
        self._cache.put(record.uri, record)
        return record

    def _stored(self, record: PolicyRecord) -> "Module":
        """The policy of a record that is to be copied elsewhere."""
        path = places.local_path(record.uri) if record.uri else None
        if record.uri is None or (path is not None and not path.exists()):
            sentence = f"'{record.run_name}' has no policy to save."
            raise BadValueError("policy", sentence, hint="record.policy = module")
        return self.load_policy(record)

    # --- old checkpoints ---

    def migrate_checkpoint(self, old_path: str | Path, new_path: str | Path | None = None) -> str:
        """Write one old checkpoint anew as a pair; as `metta_hub.migrate_checkpoint`.

        Returns:
            The pair's `.pt`: `NAME.new.pt` beside the old file when no new path is given.

        Raises:
            MettaHubError: it cannot be migrated, or is none that needs it.
        """
        return migrate.migrate_checkpoint(old_path, new_path)

    # --- records ---

    def _known(self, uri: str) -> PolicyRecord | None:
        """The record of a file that was used before."""
        path = places.local_path(uri)
        if path is None:
            return None
        scheme = places.PYTORCH if uri.startswith(places.PYTORCH) else FILE
        return self._read_before(f"{scheme}{path}")

    def _read_before(self, uri: str) -> PolicyRecord | None:
        """The record that is held for a uri, if its metadata are those of the files, and not somebody's own."""
        record = self._held(uri)
        return record if record is not None and record.source is not None else None

    def _held(self, uri: str) -> PolicyRecord | None:
        """The record that is held for a uri, if it is still of that, and its files are those that it was read from."""
        record = self._cache.get(uri)
        if record is None or record.uri != uri or (record.origin is not None and record.origin.changed()):
            return None
        return record

    def _record(self, found: Candidate, origin: Origin | None) -> PolicyRecord:
        record = self._read_before(found.uri)
        if record is not None:
            return record
        known = found.read()
        name = known.values.get("run_name") or _file_name(found)
        record = PolicyRecord(self, str(name), found.uri, PolicyMetadata.from_dict(_items(known)))
        record.origin, record.source = origin, known
        self._cache.put(found.uri, record)
        return record


def _items(known: Metadata) -> dict[str, Any]:
    """Metadata as a record has them: the name and the uri are its own, and what nobody knows is 0."""
    values = {key: value for key, value in known.values.items() if key not in {"run_name", "uri"}}
    return values | {key: default for key, default in DEFAULTS.items() if values.get(key) is None}


def _uri_of(uri_or_config: object) -> str:
    uri = uri_or_config if isinstance(uri_or_config, str | Path) else setting(uri_or_config, "uri")
    if isinstance(uri, str | Path):
        return str(uri)
    sentence = f"A {type(uri_or_config).__name__} is no uri and has none."
    raise BadTypeError("uri", sentence, hint="store.policy_records('checkpoints')")


def _file_name(found: Candidate) -> str:
    return found.entry.name if found.uri.startswith(places.HUB) else Path(found.uri).name


def _metadata_of(record: PolicyRecord) -> Metadata:
    """What to write of a record: zeros that stand for what nobody knows are unknown again."""
    values: dict[str, Any] = {**record.metadata, "run_name": record.run_name}
    source = record.source
    if source is None:
        return metadata.from_values(values)
    values |= {key: None for key in source.unknown if values.get(key) == DEFAULTS[key]}
    return source.with_values(values)
