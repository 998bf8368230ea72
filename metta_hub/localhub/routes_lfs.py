"""Large files: the Git LFS batch API, and the transfers that it leads to."""

import math
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from metta_hub.localhub import links
from metta_hub.localhub.calls import Call, list_of, parse_json, text_of
from metta_hub.localhub.errors import BadRequestError, NotServedError
from metta_hub.localhub.lfs import check_oid
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.transfers import file_response
from metta_hub.localhub.web import Handler, Json, Route

LFS_TYPE = "application/vnd.git-lfs+json"
_OBJECTS_PER_BATCH = 1000
_MOST_PARTS = 100
Transfer = Callable[[Call, Repo, dict[str, str]], Response]


def batch(call: Call) -> Response:
    """Say where to send or to fetch each object."""
    repo = call.repo_for_files()
    body = call.json()
    operation = text_of(body, "operation")
    if operation not in ("upload", "download"):
        raise BadRequestError('"operation" must be "upload" or "download"')
    if operation == "upload":
        # Not only for those who may write to the repo: pull requests of others bring large files too.
        call.writer()
    multipart = "multipart" in (body["transfers"] if isinstance(body.get("transfers"), list) else ())
    answers = []
    for item in list_of(body, "objects", dict, _OBJECTS_PER_BATCH):
        oid, size = check_oid(item.get("oid")), item.get("size")
        if not isinstance(size, int) or size < 0:
            raise BadRequestError('"size" must be a number')
        answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        if operation == "upload":
            answer |= _upload(call, repo, oid, size, multipart=multipart)
        else:
            answer |= _download(call, repo, oid)
        answers.append(answer)
    content = {"transfer": "basic", "objects": answers, "hash_algo": "sha256"}
    return Json(content, media_type=LFS_TYPE)


def _upload(call: Call, repo: Repo, oid: str, size: int, *, multipart: bool) -> dict[str, Any]:
    limits = call.hub.limits
    if repo.lfs.size(oid) == size:
        repo.lfs.renew(oid)
        repo.lfs.remove_uploads(oid)
        return {}
    if size > limits.lfs_object:
        return {"error": {"code": 422, "message": f"Over {limits.lfs_object} bytes"}}
    fields = {"oid": oid, "size": size}
    verify = {"href": _link(call, repo, "verify", fields)}
    if not (multipart and size > limits.multipart_threshold):
        return {"actions": {"upload": {"href": _link(call, repo, "put", fields)}, "verify": verify}}
    part_size = max(limits.part_size, math.ceil(size / _MOST_PARTS))
    fields |= {"part_size": part_size, "upload": repo.lfs.new_upload(oid)}
    count = math.ceil(size / part_size)
    header = {str(number): _link(call, repo, "part", {**fields, "number": number}) for number in range(1, count + 1)}
    header["chunk_size"] = str(part_size)
    return {
        "actions": {
            "upload": {"href": _link(call, repo, "complete", fields), "header": header},
            "verify": verify,
        }
    }


def _download(call: Call, repo: Repo, oid: str) -> dict[str, Any]:
    if repo.lfs.size(oid) is None:
        return {"error": {"code": 404, "message": "Object does not exist"}}
    return {"actions": {"download": {"href": _link(call, repo, "get", {"oid": oid})}}}


def _link(call: Call, repo: Repo, action: str, fields: dict[str, Any]) -> str:
    seconds = call.hub.limits.link_seconds
    path = f"/api/lfs/{repo.id}/{action}"
    return call.endpoint + links.sign(call.hub.accounts.secret, path, {**fields, "repo": repo.key}, seconds=seconds)


def _signed(action: str, handler: Transfer) -> Handler:
    """A handler that follows a signed link: the link is the permission."""

    def transfer(call: Call) -> Response:
        query = dict(call.request.query_params)
        namespace, name = call.params["ns"], call.params["name"]
        links.check(call.hub.accounts.secret, f"/api/lfs/{namespace}/{name}/{action}", query)
        repo = call.hub.repo(namespace, name)
        if repo.key != query["repo"]:
            raise NotServedError("This link was for a repo that is gone")
        return handler(call, repo, query)

    return transfer


def _put(call: Call, repo: Repo, query: dict[str, str]) -> Response:
    size = int(query["size"])
    repo.lfs.receive(call.chunks(size), oid=query["oid"], size=size)
    return Json({})


def _part(call: Call, repo: Repo, query: dict[str, str]) -> Response:
    size, part_size, number = (int(query[key]) for key in ("size", "part_size", "number"))
    offset = (number - 1) * part_size
    length = min(part_size, size - offset)
    etag = repo.lfs.receive_part(call.chunks(length), upload=query["upload"], offset=offset, size=length)
    return Json({}, headers={"ETag": f'"{etag}"'})


def _complete(call: Call, repo: Repo, query: dict[str, str]) -> Response:
    parts = list_of(parse_json(call.body()), "parts", dict, 10_000)
    if [part.get("partNumber") for part in parts] != list(range(1, len(parts) + 1)):
        raise BadRequestError("The parts must be numbered from 1, without gaps")
    repo.lfs.complete_parts(
        [text_of(part, "etag").strip('"') for part in parts],
        upload=query["upload"],
        part_size=int(query["part_size"]),
        oid=query["oid"],
        size=int(query["size"]),
    )
    return Json({})


def _verify(_call: Call, repo: Repo, query: dict[str, str]) -> Response:
    """Confirm that an object has arrived."""
    if repo.lfs.size(query["oid"]) != int(query["size"]):
        raise NotServedError("Object does not exist")
    return Json({}, media_type=LFS_TYPE)


def _get(call: Call, repo: Repo, query: dict[str, str]) -> Response:
    return file_response(call.request, repo.lfs.path(query["oid"]), {"ETag": f'"{query["oid"]}"'})


_OBJECTS = "/{ns}/{name}/info/lfs/objects"
_TRANSFER = "/api/lfs/{ns}/{name}"

ROUTES = (
    Route("POST", f"{_OBJECTS}/batch", batch),
    Route("PUT", f"{_TRANSFER}/put", _signed("put", _put)),
    Route("PUT", f"{_TRANSFER}/part", _signed("part", _part)),
    Route("POST", f"{_TRANSFER}/complete", _signed("complete", _complete)),
    Route("POST", f"{_TRANSFER}/verify", _signed("verify", _verify)),
    Route("GET", f"{_TRANSFER}/get", _signed("get", _get)),
)
