"""The card: metadata → facts → template → README.md.

Whatever comes from a checkpoint is text and stays text: facts are escaped for Markdown before a template sees them,
and the YAML block is written by huggingface_hub's own card classes, never by string.
"""

import html
import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from metta_hub.checkpoint import Checkpoint, TensorInfo
from metta_hub.errors import FileError, NotFoundError
from metta_hub.history import ranked
from metta_hub.index import Index
from metta_hub.metadata import numbers_in

LIBRARY_NAME = "metta-hub"
TAGS = ("reinforcement-learning", "deep-reinforcement-learning", "metta")
#: Rows that a table of the card shows at most; the rest is one `metta-hub` command away.
MAX_ROWS = 200
MAX_TEMPLATE_BYTES = 1 << 20
_TEMPLATES = "model_card_templates"
_TEMPLATE_HINT = "--template takes the name of a template that comes along, or the path of a Markdown file"
# What is markup anywhere in a line; an underscore inside a word is none.
_INLINE = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# What is markup where a line, or an item of a list, begins: headings, quotes, rules, lists.
_LEADING = re.compile(r"^(\d{0,9})([#>+=.)-])")


@dataclass(frozen=True, slots=True)
class CardFile:
    """A file that the card lists: path, bytes, sha256."""

    path: str
    size: int
    sha256: str


def template_folder() -> Path:
    """The folder of the card templates: inside an installed package, or beside it in a checkout.

    Raises:
        NotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / _TEMPLATES, package.parent / _TEMPLATES):
        if folder.is_dir():
            return folder
    raise NotFoundError(_TEMPLATES, f"The folder {_TEMPLATES} is neither in nor beside {package}.")


def read_template(name_or_file: str) -> str:
    """The text of a template: a file of one's own, or the name of one that comes with the package.

    Raises:
        NotFoundError: there is no such file or name; lists the names.
        FileError: it is not a text of reasonable size.
    """
    folder = template_folder()
    known = sorted(path.stem for path in folder.glob("*.md"))
    path = folder / f"{name_or_file}.md" if name_or_file in known else Path(name_or_file)
    if not path.is_file():
        raise NotFoundError(
            name_or_file,
            f"There is no card template '{name_or_file}' (known: {', '.join(known)}).",
            hint=_TEMPLATE_HINT,
        )
    if path.stat().st_size > MAX_TEMPLATE_BYTES:
        raise FileError(path, f"a template of more than {MAX_TEMPLATE_BYTES:,} bytes is not read", hint=_TEMPLATE_HINT)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileError(path, "the template is not UTF-8 text", hint=_TEMPLATE_HINT) from error


def render(
    checkpoint: Checkpoint,
    *,
    repo_id: str,
    index: Index,
    files: Sequence[CardFile],
    template: str = "default",
    license_id: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Write the card of a repo whose root is `checkpoint`.

    Args:
        checkpoint: the root.
        repo_id: where it is published.
        index: every checkpoint of the repo.
        files: the root's files.
        template: name or file of a template.
        license_id: the Hub's id of a licence; None leaves it out.
        notes: sentences about what was changed on the way, in plain text.

    Raises:
        FileError: the template asks for a fact that there is not.
    """
    text = read_template(template)
    facts = _facts(checkpoint, repo_id, index, files, notes)
    facts["front_matter"] = _front_matter(checkpoint, repo_id, license_id)
    # Not HTML but Markdown: `as_text` and `as_code` have escaped the facts for it.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    try:
        rendered = environment.from_string(text).render(facts)
    except Exception as error:  # a template computes: any error of Python's may come out of it
        hint = f"'metta-hub card PATH --template {shlex.quote(template)}' tries it without publishing"
        raise FileError(template, f"the template cannot be filled in: {_one_line(error)}", hint=hint) from error
    return re.sub(r"\n{3,}", "\n\n", rendered).strip() + "\n"


def license_of(card: str) -> str | None:
    """The licence that a card names; None when it names none or has no readable metadata."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a card without metadata is nothing to warn of
            found = ModelCard(card, ignore_metadata_errors=True).data.get("license")
    except Exception:  # noqa: BLE001  (a stranger's YAML: whatever it raises, there is no licence to keep)
        return None
    return found if isinstance(found, str) else None


def as_text(value: object) -> str:
    """One line of a stranger's text, as text in Markdown: no markup, no HTML."""
    line = _INLINE.sub(r"\\\g<0>", _one_line(value))
    # Now, so that the `#` and `;` of HTML's entities are not taken for markup.
    return html.escape(_LEADING.sub(r"\1\\\2", line), quote=False).replace("\\&gt;", "&gt;")


def as_code(value: object) -> str:
    """One line of a stranger's text as a code span that ends where it should, also inside a table."""
    line = _one_line(value).replace("`", "'").replace("|", "\\|")
    return f"`{line}`" if line else ""


def _one_line(value: object) -> str:
    line = " ".join(str(value).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


# --- facts ------------------------------------------------------------------------------------------------------


def _facts(
    checkpoint: Checkpoint, repo_id: str, index: Index, files: Sequence[CardFile], notes: Sequence[str]
) -> dict[str, Any]:
    values, weights = checkpoint.metadata.values, checkpoint.weights
    error = _number(values.get("reward_sem"))
    results = _results(values)
    return {
        "title": as_text(_title(checkpoint, index)),
        "summary": _summary(checkpoint),
        "reference": repo_id,
        "repo_id": repo_id,
        "checkpoint": checkpoint.name,
        "results": [
            {
                "metric": as_text(path),
                "value": f"{value:g}",
                "error": _shown(error) if path == "avg_reward" else "",
            }
            for path, value in results[:MAX_ROWS]
        ],
        "errors_known": error is not None and bool(results),
        "training": [{"name": name, "value": value} for name, value in _training(values)],
        "actions": [as_text(action) for action in _strings(values.get("action_names"))[:MAX_ROWS]],
        "checkpoints": _checkpoint_rows(index),
        "files": [{"path": as_text(f.path), "size": f"{f.size:,}", "sha256": f.sha256} for f in files],
        # By name: the order of a mirror is not that of its `.pt`, and the card must not show which was read.
        "tied": [[as_code(name) for name in group] for group in sorted(map(sorted, weights.tied))],
        "tensors": [_tensor_row(weights.by_name[name]) for name in sorted(weights.by_name)[:MAX_ROWS]],
        "tensor_count": len(weights.tensors),
        "parameters": f"{weights.parameters:,}",
        "notes": [as_text(note) for note in notes],
    }


def _title(checkpoint: Checkpoint, index: Index) -> str:
    """The run's name; the checkpoint's when nobody knows the run's."""
    runs = (entry.run_name for entry in index.entries if entry.name == checkpoint.name)
    return next((run for run in runs if run), checkpoint.name)


def _summary(checkpoint: Checkpoint) -> str:
    values = checkpoint.metadata.values
    info = values.get("model_info")
    kind = info.get("type") if isinstance(info, Mapping) else None
    policy = f"A policy of type {as_text(kind)}" if isinstance(kind, str) else "A policy"
    steps = _number(values.get("agent_step"))
    trained = f", trained for {steps:,.0f} agent steps" if steps else ""
    return f"{policy} with {checkpoint.weights.parameters:,} parameters{trained}."


def _results(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = [(key, _number(values.get(key))) for key in ("score", "avg_reward")]
    rows = [(key, number) for key, number in found if number is not None]
    for group in ("evals", "eval_scores"):
        rows += sorted(numbers_in(values.get(group)))  # a card must not show in which order a dict was filled
    return rows


def _training(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, name in (("epoch", "epoch"), ("agent_step", "agent steps"), ("generation", "generation")):
        number = _number(values.get(key))
        rows.append((name, "unknown" if number is None else f"{number:,.0f}"))
    seconds = _number(values.get("train_time"))
    rows.append(("training time", "unknown" if seconds is None else f"{seconds:,.0f} s"))
    return rows


def _checkpoint_rows(index: Index) -> list[dict[str, Any]]:
    return [
        {
            "name": as_text(entry.name),
            "reference": entry.name,
            "root": entry.name == index.root,
            "epoch": _shown(entry.epoch),
            "agent_step": _shown(entry.agent_step),
            "avg_reward": _shown(entry.avg_reward),
        }
        for entry in ranked(index.entries)[:MAX_ROWS]
    ]


def _tensor_row(tensor: TensorInfo) -> dict[str, str]:
    shape = " × ".join(str(size) for size in tensor.shape) or "scalar"
    return {"name": as_code(tensor.name), "dtype": tensor.dtype, "shape": shape}


def _shown(number: float | None) -> str:
    if number is None:
        return "unknown"
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


# --- the YAML block ---------------------------------------------------------------------------------------------


def _front_matter(checkpoint: Checkpoint, repo_id: str, license_id: str | None) -> str:
    results = [_eval_result(path, value) for path, value in _results(checkpoint.metadata.values)[:MAX_ROWS]]
    data = ModelCardData(
        library_name=LIBRARY_NAME,
        pipeline_tag="reinforcement-learning",
        tags=list(TAGS),
        license=license_id,
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml(line_break=chr(10)).strip()}\n---"


def _eval_result(path: str, value: float) -> EvalResult:
    # The Hub groups results by the dataset's type, so every suite needs one of its own.
    slug = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "evaluation"
    return EvalResult(
        task_type="reinforcement-learning",
        dataset_type=slug,
        dataset_name=_one_line(path),
        metric_type="mean_reward",
        metric_value=value,
    )
