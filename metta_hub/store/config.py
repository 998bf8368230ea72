"""Settings out of whatever a training script has them in: objects with attributes, dicts, or both nested."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metta_hub.errors import MissingFieldError

_HINT = "give the store a config with trainer.checkpoint.checkpoint_dir or run_dir, or name the path: override_path="


def setting(config: object, *names: str) -> Any:  # noqa: ANN401  (whatever it holds)
    """What stands at a path of attributes and keys; None when nothing does."""
    found: object = config
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
    return found


def checkpoint_dir(config: object) -> Path:
    """Where a trainer's checkpoints go.

    Raises:
        MissingFieldError: there is no `trainer` in the config, or nothing that says where (an AttributeError).
    """
    if setting(config, "trainer") is None:
        raise MissingFieldError("trainer", "The config has no 'trainer', which says where checkpoints go.", hint=_HINT)
    for names in (("trainer", "checkpoint", "checkpoint_dir"), ("trainer", "checkpoint_dir")):
        if stated := setting(config, *names):
            return Path(str(stated))
    run_dir, data_dir, run = (setting(config, name) for name in ("run_dir", "data_dir", "run"))
    if run_dir:
        return Path(str(run_dir)) / "checkpoints"
    if data_dir and run:
        return Path(str(data_dir)) / str(run) / "checkpoints"
    raise MissingFieldError("run_dir", "Neither trainer nor run_dir says where checkpoints go.", hint=_HINT)
