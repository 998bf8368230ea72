"""Fetching files: /{namespace}/{name}/resolve/{revision}/{path}, and with `raw` what git itself has there."""

from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response

from metta_hub.localhub.calls import Call
from metta_hub.localhub.errors import EntryNotFoundError
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.transfers import file_response
from metta_hub.localhub.web import Route

_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
}
# A stranger's file must not become a page of ours: no scripts, no types but the harmless ones.
_POLICY = "default-src 'none'; sandbox"


def resolve(call: Call) -> Response:
    """A file of a revision. Its ETag names the content, because clients name their cached copy by it."""
    repo = call.repo_for_files()
    blob, headers = _blob(call, repo)
    pointer = repo.pointer(blob)
    content: bytes | Path = blob
    if pointer:
        content = repo.lfs.path(pointer.oid)
        headers["ETag"] = headers["X-Linked-Etag"] = f'"{pointer.oid}"'
        headers["X-Linked-Size"] = str(pointer.size)
    headers["Content-Type"] = _content_type(call.params["path"], blob if pointer is None else None)
    return file_response(call.request, content, headers)


def raw(call: Call) -> Response:
    """What git has at a path of a revision: of a large file the pointer. npm's client asks so whether one is there."""
    blob, headers = _blob(call, call.repo_for_files())
    headers["Content-Type"] = _content_type(call.params["path"], blob)
    return file_response(call.request, blob, headers)


def _blob(call: Call, repo: Repo) -> tuple[bytes, dict[str, str]]:
    """The file that a request names, as git has it, and the headers that every answer with it has."""
    path = call.params["path"]
    with repo.git() as git:
        commit = git.resolve(call.params["rev"])
        headers = {"X-Repo-Commit": commit.decode(), "Content-Security-Policy": _POLICY}
        entry = git.entry(commit, path)
        if entry.is_folder:
            raise EntryNotFoundError(f"{path} is a folder", headers={"X-Repo-Commit": commit.decode()})
        blob = git.blob(entry.sha)
    headers["ETag"] = f'"{entry.sha.decode()}"'
    name = quote(path.rpartition("/")[2], safe="")
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{name}"
    return blob, headers


def _content_type(path: str, text: bytes | None) -> str:
    known = _PICTURES.get(Path(path).suffix.lower())
    if known or text is None or b"\0" in text[:8192]:
        return known or "application/octet-stream"
    return "text/plain; charset=utf-8"


ROUTES = (
    Route("GET", "/{ns}/{name}/resolve/{rev}/{path...}", resolve),
    Route("GET", "/{ns}/{name}/raw/{rev}/{path...}", raw),
)
