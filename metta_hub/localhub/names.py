"""What may be the name of a repo, a path in it, or a branch or tag."""

import re

from dulwich.refs import Ref, check_ref_format

from metta_hub.localhub.errors import BadRequestError, UnprocessableError

MAX_PATH = 1024
MAX_SEGMENT = 255
MAX_REPO_ID = 96
DEFAULT_BRANCH = "main"

_REPO_PART = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REF_NAME = re.compile(r"[A-Za-z0-9._/+@#=,-]{1,200}")
# Surrogates are what JSON makes of half an emoji; git stores UTF-8.
_BAD_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:")
_FULL_SHA = re.compile(r"[0-9a-f]{40}")
#: First segments of a Hub's own addresses: a namespace of that name would hide them, or be hidden.
RESERVED_NAMESPACES = frozenset({"api", "datasets", "spaces", "kernels", "buckets"})


def check_repo_id(namespace: str, name: str) -> None:
    """Refuse what cannot be a repo's id.

    Raises:
        BadRequestError: it cannot; says why.
    """
    for part in (namespace, name):
        if not _REPO_PART.fullmatch(part) or part.endswith((".git", ".ipynb")):
            raise BadRequestError(
                f"Invalid repo name '{namespace}/{name}': letters, digits, '-', '_' and '.'; "
                "no '-' or '.' at either end, no '--' or '..', no '.git' at the end"
            )
    if namespace.lower() in RESERVED_NAMESPACES:
        raise BadRequestError(f"Invalid namespace '{namespace}': reserved")
    if len(namespace) + 1 + len(name) > MAX_REPO_ID:
        raise BadRequestError(f"Invalid repo name: over {MAX_REPO_ID} characters")


def check_path(path: str) -> str:
    """Return `path` if a file of a repo can have it.

    Raises:
        UnprocessableError: it cannot; says why.
    """
    reason = _path_problem(path)
    if reason:
        raise UnprocessableError(f"Invalid path in repo {path[:100]!r}: {reason}")
    return path


def _path_problem(path: str) -> str:
    if not path or len(path) > MAX_PATH:
        return f"must be 1 to {MAX_PATH} characters long"
    if _BAD_IN_PATH.search(path):
        return "contains a backslash, a control character or half a character"
    segments = path.split("/")
    if not {"", ".", ".."}.isdisjoint(segments):
        return "contains an empty, '.' or '..' segment"
    if any(map(is_git_folder, segments)):
        return "contains a '.git' segment"
    if max(len(segment.encode()) for segment in segments) > MAX_SEGMENT:
        return f"contains a segment over {MAX_SEGMENT} bytes"
    return ""


def is_git_folder(segment: str) -> bool:
    """Whether a file system may take `segment` for `.git`: case, final dots, short name, unseen marks."""
    plain = "".join(c for c in segment if c.isprintable() and c not in "\u200c\u200d\u200e\u200f\ufeff")
    return plain.lower().split(":")[0].rstrip(" .") in (".git", "git~1")


def leads_outside(path: str, target: bytes) -> bool:
    """Whether a symbolic link at `path` leads out of the repo, on whatever system it is checked out."""
    text = target.decode("utf-8", "replace")
    if _ABSOLUTE.match(text) or "\\" in text:
        return True
    depth = path.count("/")
    for segment in text.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(segment, 1)
        if depth < 0:
            return True
    return False


def check_ref_name(kind: str, name: str) -> Ref:
    """Return `refs/heads/NAME` or `refs/tags/NAME` for a name that git and this Hub accept.

    Args:
        kind: `heads` or `tags`.
        name: the branch's or tag's own name.

    Raises:
        BadRequestError: it is no such name.
    """
    reference = Ref(f"refs/{kind}/{name}".encode("utf-8", "replace"))
    acceptable = (
        _REF_NAME.fullmatch(name)
        and not name.startswith(("-", "refs/"))
        and name != "HEAD"
        and not _FULL_SHA.fullmatch(name)
        and check_ref_format(reference)
    )
    if not acceptable:
        raise BadRequestError(f"Invalid reference name: {name[:100]!r}")
    return reference
