"""git over HTTP: clone, fetch and push."""

import gzip
import io
import tempfile
import zlib
from typing import IO

from dulwich.protocol import pkt_line
from starlette.responses import Response

from metta_hub.localhub import fetches, pushes
from metta_hub.localhub.calls import Call
from metta_hub.localhub.errors import BadRequestError, NotServedError, TooLargeError
from metta_hub.localhub.transfers import FileStream
from metta_hub.localhub.web import Route

_IN_MEMORY = 8 * 1024 * 1024
_FRESH = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
_READ, _WRITE = "git-upload-pack", "git-receive-pack"


def info_refs(call: Call) -> Response:
    """The references, with which every fetch and push begins."""
    service = call.query("service")
    repo = call.repo_to_write() if service == _WRITE else call.repo_for_files()
    if service not in (_READ, _WRITE):
        raise NotServedError("This Hub speaks git's smart HTTP protocol only")
    out = _spool(call)
    out.write(pkt_line(f"# service={service}\n".encode()) + pkt_line(None))
    with repo.git() as git:
        if service == _READ:
            fetches.advertise(git, out.write)
        else:
            pushes.advertise(git, lambda line: out.write(pkt_line(line)))
    return _answer(out, f"application/x-{service}-advertisement")


def upload_pack(call: Call) -> Response:
    """Send what a clone or fetch lacks."""
    repo = call.repo_for_files()
    _check_type(call, _READ)
    limit = call.hub.limits.fetch_body
    with call.spooled(limit) as body, repo.git() as git:
        request = _unpacked(body, limit) if call.request.headers.get("content-encoding") == "gzip" else body
        out = _spool(call)
        try:
            fetches.send(git, request, out.write)
        except Exception as error:
            out.close()
            raise BadRequestError(f"Not a git fetch: {type(error).__name__}") from error
    return _answer(out, f"application/x-{_READ}-result")


def receive_pack(call: Call) -> Response:
    """Take a push."""
    repo = call.repo_to_write()
    _check_type(call, _WRITE)
    if call.request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequestError("A push must not be compressed twice")
    with call.spooled(call.hub.limits.push_body) as body, repo.git_to_write() as git:
        report = pushes.receive(repo, git, body, call.hub.limits)
    content = b"".join(pkt_line(line + b"\n") for line in report) + pkt_line(None)
    return Response(content, media_type=f"application/x-{_WRITE}-result", headers=_FRESH)


def _unpacked(body: IO[bytes], limit: int) -> IO[bytes]:
    try:
        with gzip.GzipFile(fileobj=body, mode="rb") as file:
            data = file.read(limit + 1)
    except (EOFError, OSError, zlib.error):
        raise BadRequestError("The request is not compressed as it says") from None
    if len(data) > limit:
        raise TooLargeError(f"The unpacked request may have {limit} bytes")
    return io.BytesIO(data)


def _spool(call: Call) -> IO[bytes]:
    """A file for an answer: in memory while small, else on disk. It is closed when it was sent."""
    return tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(call.hub.scratch.folder))


def _check_type(call: Call, service: str) -> None:
    # No browser sends this type to another site without asking first.
    if call.request.headers.get("content-type") != f"application/x-{service}-request":
        raise BadRequestError(f"Content-Type must be application/x-{service}-request")


def _answer(out: IO[bytes], media_type: str) -> Response:
    return FileStream(out, 0, out.tell(), media_type=media_type, headers=_FRESH)


_REPO = "/{ns}/{name}"

ROUTES = (
    Route("GET", f"{_REPO}/info/refs", info_refs),
    Route("POST", f"{_REPO}/{_READ}", upload_pack),
    Route("POST", f"{_REPO}/{_WRITE}", receive_pack),
)
