"""What a bundle says of its policy: `policy_spec.json`, read from strangers and written for Metta's loader.

The loader imports the class that the spec names, runs its `setup_script`, and follows its `data_path` wherever that
leads (mettagrid 0.26.22: `prepare_policy_spec`). Here the spec is data; what would run or lead elsewhere is refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from metta_hub import strict_json
from metta_hub.errors import FormatError, MetadataError
from metta_hub.metadata import JSON, Repair
from metta_hub.strict_json import Limits

SPEC = "policy_spec.json"
#: The file in an `.mpt` that says how its policy is made.
ARCHITECTURE = "modelarchitecture.txt"
#: The key of a pair's metadata under which the whole spec is kept.
KEY = "metta_bundle"
#: The class that runs what Metta's own trainer has written since January 2026, and the file that it reads.
CHECKPOINT_POLICY, CHECKPOINT_WEIGHTS = "metta.agent.policy.CheckpointPolicy", "weights.safetensors"

#: What to do about an odd zip.
PACK = f"pack {SPEC} and the weights alone, both at the root of the zip"
#: How much of a spec is believed.
LIMITS = Limits(size=1 << 20, nodes=50_000)
#: Characters of a stranger's text that an error repeats.
_SHOWN = 80
#: Most bytes of a file's name.
_LONGEST_NAME = 255

_DRIVE = re.compile(r"[A-Za-z]:")
_CLASS = re.compile(r"[\w.:-]{1,500}")
_IS_CODE = re.compile(r"\.(py|pyc|pyw|pyd|so)\Z", re.IGNORECASE)


def parse(content: bytes, path: Path | str) -> tuple[dict[str, JSON], tuple[Repair, ...]]:
    """Read a spec, and judge it.

    Returns:
        The spec with all its fields, and what in it was no strict JSON; pointers begin at `KEY`.

    Raises:
        FormatError: it is none, or asks for what is refused.
        MetadataError: a key twice in one object, nesting deeper than 64, an impossible number.
    """
    try:
        value, repairs = strict_json.loads(content, path, LIMITS)
    except MetadataError as error:
        raise MetadataError(error.pointer, error.reason, path=path, hint=_FIELDS_KNOWN) from None
    if not isinstance(value, dict):
        raise FormatError(path, "the JSON is no object", hint=_FIELDS_KNOWN)
    check(value, path)
    return value, tuple(Repair(f"/{KEY}{one.pointer}", one.was, one.certain) for one in repairs)


def check(spec: Mapping[str, JSON], path: Path | str) -> None:
    """Refuse a spec that is none, or that would run something or lead out of its bundle.

    Raises:
        FormatError: it would.
    """
    for field, (kind, fits) in _FIELDS.items():
        if not fits(spec.get(field)):
            raise FormatError(path, f"its {field} is not {kind}", hint=_FIELDS_KNOWN)
    if "init_kwargs" in spec and spec["init_kwargs"] is None:
        raise FormatError(path, "its init_kwargs is not an object", hint=_FIELDS_KNOWN)
    if spec.get("setup_script"):
        script = _shown(spec["setup_script"])
        hint = "nothing of a bundle is run here; take setup_script out of the spec if the policy loads without it"
        raise FormatError(path, f"its setup_script {script} would run before the policy is loaded", hint=hint)
    if spec.get("data_path") is not None:
        data_path(spec, path)


def data_path(spec: Mapping[str, JSON], path: Path | str) -> PurePosixPath:
    """Where in the bundle the weights are.

    Raises:
        FormatError: nowhere, or not in it.
    """
    value = spec.get("data_path")
    if value is None:
        hint = "a policy without weights needs no repo: its class is all there is"
        raise FormatError(path, "it names no weights: its data_path is null", hint=hint)
    text = str(value)
    named = PurePosixPath(text)
    if named.is_absolute() or text.startswith("~") or _DRIVE.match(text):
        raise FormatError(path, f"its data_path {_shown(text)} is absolute", hint=_RELATIVE)
    if ".." in named.parts or "\\" in text:
        raise FormatError(path, f"its data_path {_shown(text)} may lead out of the bundle", hint=_RELATIVE)
    if not named.parts or "\0" in text or named.name == SPEC or len(named.name.encode()) > _LONGEST_NAME:
        raise FormatError(path, f"its data_path {_shown(text)} names no file of weights", hint=_RELATIVE)
    check_names([named.name], path)
    return named


_FIELDS_KNOWN = f'{SPEC} is like {{"class_path": "package.Policy", "data_path": "weights.pt", "init_kwargs": {{}}}}'
_RELATIVE = "data_path names a file in the bundle, as weights.safetensors"


def check_member(name: str, path: Path | str) -> None:
    """Refuse a member of a zip that would be unpacked elsewhere.

    Raises:
        FormatError: it would.
    """
    if name.startswith("/") or "\\" in name or _DRIVE.match(name) or ".." in PurePosixPath(name).parts:
        raise FormatError(path, f"its member {_shown(name)} would be unpacked outside of it", hint=PACK)


def check_names(names: Sequence[str], path: Path | str) -> None:
    """Refuse what Python could import: Metta's loader puts a bundle where Python looks first.

    Raises:
        FormatError: there is such a file.
    """
    code = next((name for name in names if _IS_CODE.search(name)), None)
    if code is not None:
        hint = "only weights and their spec are taken; leave the code out"
        raise FormatError(path, f"it holds code, {_shown(code)}, which loading it would run", hint=hint)


def of_architecture(text: bytes, weights: str, path: Path | str) -> dict[str, JSON]:
    """The spec that stands for the text in an `.mpt`: Metta's own class takes it as an argument.

    Raises:
        FormatError: it is no text, or too long for one.
    """
    if len(text) > LIMITS.size:
        raise FormatError(path, f"{ARCHITECTURE} has {len(text):,} bytes; {LIMITS.size:,} is the limit")
    try:
        architecture = text.decode()
    except UnicodeDecodeError as error:
        raise FormatError(path, f"{ARCHITECTURE} is not UTF-8 at byte {error.start}") from None
    arguments: dict[str, JSON] = {"architecture_spec": architecture, "device": "cpu"}
    return {"class_path": CHECKPOINT_POLICY, "data_path": weights, "init_kwargs": arguments, "setup_script": None}


def metadata_values(spec: Mapping[str, JSON]) -> dict[str, JSON]:
    """What a spec tells of its policy, as the metadata of a pair have it; and the spec itself."""
    module, _, kind = str(spec["class_path"]).rpartition(".")
    info: dict[str, JSON] = {"type": kind}
    if module:
        info["module_name"] = module
    values: dict[str, JSON] = {"model_info": info, KEY: dict(spec)}
    environment = spec.get("policy_env_interface")
    if not isinstance(environment, dict):
        return values
    attributes: dict[str, JSON] = {}
    shape, actions = environment.get("observation_shape"), environment.get("action_names")
    if isinstance(shape, list) and shape and all(type(size) is int for size in shape):
        space: dict[str, JSON] = {"type": "Box", "shape": shape, "dtype": environment.get("observation_dtype")}
        attributes["observation_space"] = {key: value for key, value in space.items() if value is not None}
    if isinstance(actions, list) and actions and all(isinstance(name, str) for name in actions):
        values["action_names"] = actions
        attributes["action_space"] = {"type": "Discrete", "n": len(actions)}
    if attributes:
        info["agent_attributes"] = attributes
    return values


def dumps(spec: Mapping[str, JSON]) -> bytes:
    """Write a spec as Metta does: on one line, in its own order.

    Raises:
        MetadataError: something that strict JSON cannot say.
    """
    return strict_json.dumps(dict(spec), indent=None)[:-1]


_Test = Callable[[JSON], bool]
_FIELDS: Mapping[str, tuple[str, _Test]] = {
    "class_path": ("a text that names a class", lambda value: isinstance(value, str) and bool(_CLASS.fullmatch(value))),
    "data_path": ("a text", lambda value: value is None or isinstance(value, str)),
    "init_kwargs": ("an object", lambda value: value is None or isinstance(value, dict)),
    "policy_env_interface": ("an object", lambda value: value is None or isinstance(value, dict)),
    "setup_script": ("a text", lambda value: value is None or isinstance(value, str)),
}


def _shown(text: object) -> str:
    shown = str(text)
    return f"'{shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '…'}'"
