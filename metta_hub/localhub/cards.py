"""Cards: the YAML at the head of a README.md, what a Hub derives from it, and what it objects to."""

import math
import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from metta_hub.localhub.errors import UnprocessableError
from metta_hub.localhub.vocabulary import LICENSES, PIPELINE_TAGS

CARD = "README.md"

_FRONT_MATTER = re.compile(r"\A\ufeff?\s*^---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_MAX_YAML = 512 * 1024
_MAX_VALUES = 100_000
_MAX_DEPTH = 60


def front_matter(text: str) -> str | None:
    """The YAML between the two `---` lines at the head of a card; blank lines may come before."""
    found = _FRONT_MATTER.match(text)
    return found[1] if found else None


@lru_cache(maxsize=512)
def parse(yaml_text: str) -> dict[str, Any]:
    """Read a card's YAML as plain JSON values; don't change the result.

    Raises:
        UnprocessableError: it is no YAML, no mapping, or unreasonably large.
    """
    if len(yaml_text) > _MAX_YAML:
        raise UnprocessableError(f"the metadata have over {_MAX_YAML} characters")
    try:
        value = yaml.load(yaml_text, Loader=yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)  # noqa: S506 - both are safe loaders
        value = {} if value is None else _plain(value, iter(range(_MAX_VALUES)), 0)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UnprocessableError(f"the metadata are not valid YAML: {reason[:300]}") from None
    if not isinstance(value, dict):
        raise UnprocessableError("the metadata must be a mapping (key: value)")
    return value


def _plain(value: object, budget: Iterator[int], depth: int) -> Any:  # noqa: ANN401 - JSON is any
    """`value` as JSON can say it. Aliases can make a small text huge, hence the budget."""
    if depth > _MAX_DEPTH or next(budget, None) is None:
        raise UnprocessableError("the metadata are too large or too deeply nested")
    match value:
        case dict():
            return {str(key): _plain(item, budget, depth + 1) for key, item in value.items()}
        case list() | tuple() | set():
            return [_plain(item, budget, depth + 1) for item in value]
        case date():
            return value.isoformat()
        case bool() | str():
            return value
        case int() | float() if _is_json_number(value):
            return value
        case _:
            return None


def _is_json_number(value: float) -> bool:
    """No NaN, no infinity, no whole number of a thousand digits."""
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63


def card_data(readme: bytes | None) -> dict[str, Any]:
    """The metadata of a README.md; empty when there are none that can be read."""
    text = front_matter((readme or b"").decode("utf-8", "replace"))
    try:
        return parse(text) if text is not None else {}
    except UnprocessableError:
        return {}


def tags(data: dict[str, Any], paths: list[str]) -> list[str]:
    """The tags by which a repo is found: the card's own and those derived from its other keys."""
    found = _strings(data.get("library_name"))
    if any(path.endswith(".safetensors") for path in paths):
        found.append("safetensors")
    found += _strings(data.get("pipeline_tag")) + _strings(data.get("tags")) + _strings(data.get("language"))
    for key, prefix in (("datasets", "dataset"), ("base_model", "base_model"), ("license", "license")):
        found += [f"{prefix}:{item}" for item in _strings(data.get(key))]
    if isinstance(data.get("model-index"), list):
        found.append("model-index")
    return list(dict.fromkeys([*found, "region:us"]))


def _strings(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and item]


def check(text: str) -> tuple[list[str], list[str]]:
    """What the Hub says about a card: errors, which stop a commit, and warnings."""
    yaml_text = front_matter(text)
    if yaml_text is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = parse(yaml_text)
    except UnprocessableError as error:
        return [str(error)], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    return [*_check_fields(data), *_check_model_index(data.get("model-index"))], []


def _check_fields(data: dict[str, Any]) -> Iterator[str]:
    for license_name in _values(data.get("license")):
        if license_name not in LICENSES:
            yield f'"license" must be one of [{", ".join(sorted(LICENSES))}]'
    for key in ("tags", "datasets", "metrics", "language", "base_model"):
        if not all(isinstance(item, str) for item in _values(data.get(key))):
            yield f'"{key}" must be a string or an array of strings'
    if isinstance(data.get("tags"), str):
        yield '"tags" must be an array'
    for key in ("library_name", "license_name", "license_link"):
        if not isinstance(data.get(key, ""), str):
            yield f'"{key}" must be a string'
    pipeline_tag = data.get("pipeline_tag")
    if pipeline_tag is not None and (not isinstance(pipeline_tag, str) or pipeline_tag not in PIPELINE_TAGS):
        yield f'"pipeline_tag" must be one of [{", ".join(sorted(PIPELINE_TAGS))}]'


def _values(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _check_model_index(index: object) -> Iterator[str]:
    if index is None:
        return
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for i, model in enumerate(index):
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            yield f'"model-index[{i}].name" is required'
        elif not isinstance(model.get("results"), list):
            yield f'"model-index[{i}].results" must be an array'
        else:
            for j, result in enumerate(model["results"]):
                yield from _check_result(result, f"model-index[{i}].results[{j}]")


def _check_result(result: object, place: str) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f'"{place}" must be of type object'
        return
    for key, needed in (("task", ("type",)), ("dataset", ("type", "name"))):
        part = result.get(key)
        for name in needed:
            if not isinstance(part, dict) or not isinstance(part.get(name), str):
                yield f'"{place}.{key}.{name}" is required'
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        yield f'"{place}.metrics" must be an array with at least one item'
        return
    for k, metric in enumerate(metrics):
        if not isinstance(metric, dict) or not isinstance(metric.get("type"), str):
            yield f'"{place}.metrics[{k}].type" is required'
        elif metric.get("value") is None:
            yield f'"{place}.metrics[{k}].value" is required'
