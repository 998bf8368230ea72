"""git over HTTP: clone, fetch and push."""

import gzip
import io
import tempfile
from collections.abc import Callable
from typing import IO

from dulwich.protocol import ReceivableProtocol, pkt_line
from dulwich.repo import Repo as DulwichRepo
from dulwich.server import Backend, UploadPackHandler
from starlette.responses import Response

from metta_hub.localhub import pushes
from metta_hub.localhub.calls import Call
from metta_hub.localhub.errors import BadRequestError, NotServedError, RefusalError, TooLargeError
from metta_hub.localhub.gitrepo import GitRepo
from metta_hub.localhub.transfers import FileStream
from metta_hub.localhub.web import Route

_IN_MEMORY = 8 * 1024 * 1024
_FRESH = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
_READ, _WRITE = "git-upload-pack", "git-receive-pack"


class _OneRepo(Backend):
    """What dulwich's handlers ask for a repository: there is but one."""

    def __init__(self, raw: DulwichRepo) -> None:
        self._raw = raw

    def open_repository(self, path: str) -> DulwichRepo:
        """The repository."""
        del path
        return self._raw


def info_refs(call: Call) -> Response:
    """The references, with which every fetch and push begins."""
    service = call.query("service")
    repo = call.repo_to_write() if service == _WRITE else call.repo_for_files()
    if service not in (_READ, _WRITE):
        raise NotServedError("This Hub speaks git's smart HTTP protocol only")
    out = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(call.hub.scratch.folder))  # noqa: SIM115 - closed when it was sent
    out.write(pkt_line(f"# service={service}\n".encode()) + pkt_line(None))
    with repo.git() as git:
        if service == _READ:
            _upload_pack(git, lambda _count: b"", out.write, only_refs=True)
        else:
            pushes.advertise(git, lambda line: out.write(pkt_line(line)))
    return _answer(out, f"application/x-{service}-advertisement")


def upload_pack(call: Call) -> Response:
    """Send what a clone or fetch lacks."""
    repo = call.repo_for_files()
    _check_type(call, _READ)
    limit = call.hub.limits.fetch_body
    with call.spooled(limit) as body, repo.git() as git:
        out = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(call.hub.scratch.folder))  # noqa: SIM115 - as above
        try:
            request = _unpacked(body, limit) if call.request.headers.get("content-encoding") == "gzip" else body
            _upload_pack(git, request.read, out.write, only_refs=False)
        except RefusalError:
            out.close()
            raise
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
    with gzip.GzipFile(fileobj=body, mode="rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLargeError(f"The unpacked request may have {limit} bytes")
    return io.BytesIO(data)


def _upload_pack(
    git: GitRepo, read: Callable[[int], bytes], write: Callable[[bytes], int | None], *, only_refs: bool
) -> None:
    protocol = ReceivableProtocol(read, write)
    UploadPackHandler(_OneRepo(git.raw), ["/"], protocol, stateless_rpc=True, advertise_refs=only_refs).handle()


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
