"""What the Hub says about repos and files, as JSON."""

import json
from typing import Any

from dulwich.objects import ObjectID

from metta_hub.localhub import cards
from metta_hub.localhub.gitrepo import MAIN, GitRepo
from metta_hub.localhub.history import commit_date, date_text
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.trees import Entry, walk

# What the Hub takes over from a config.json.
_CONFIG_KEYS = ("architectures", "auto_map", "model_type", "quantization_config")


def describe_entry(repo: Repo, git: GitRepo, entry: Entry) -> dict[str, Any]:
    """A file or folder, as tree and paths-info list it."""
    oid = entry.sha.decode()
    if entry.is_folder:
        return {"type": "directory", "oid": oid, "size": 0, "path": entry.path}
    blob = git.blob(entry.sha)
    item: dict[str, Any] = {"type": "file", "oid": oid, "size": len(blob), "path": entry.path}
    pointer = repo.pointer(blob)
    if pointer:
        item["size"] = pointer.size
        item["lfs"] = {"oid": pointer.oid, "size": pointer.size, "pointerSize": len(blob)}
    return item


def describe_repo(repo: Repo, commit: ObjectID | None = None) -> dict[str, Any]:
    """All that the Hub says about a repo at one commit, the head of `main` by default."""
    with repo.git() as git:
        head = commit or git.resolve(MAIN.decode())
        files = [entry for entry in walk(git.objects, git.tree(head), recursive=True) if not entry.is_folder]
        data = cards.card_data(git.read_file(head, cards.CARD))
        config = _config(git.read_file(head, "config.json"))
        # git counts whole seconds: the first commit would be older than the repo.
        modified = max(commit_date(git.commit(head)), date_text(repo.settings["created"]))
    paths = [entry.path for entry in files]
    described: dict[str, Any] = {
        "_id": repo.key,
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.namespace,
        "sha": head.decode(),
        "lastModified": modified,
        "createdAt": date_text(repo.settings["created"]),
        "private": repo.settings["private"],
        "gated": repo.settings["gated"],
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": cards.tags(data, paths),
        "cardData": data,
        "config": config,
        "siblings": [{"rfilename": path} for path in paths],
        "spaces": [],
        "usedStorage": repo.lfs.total(),
    }
    for key in ("pipeline_tag", "library_name", "model-index"):
        if data.get(key) is not None:
            described[key] = data[key]
    return described


def describe_blobs(repo: Repo, commit: ObjectID) -> list[dict[str, Any]]:
    """The siblings of a repo with their sizes and ids."""
    with repo.git() as git:
        items = [
            describe_entry(repo, git, entry)
            for entry in walk(git.objects, git.tree(commit), recursive=True)
            if not entry.is_folder
        ]
    siblings = []
    for item in items:
        sibling = {"rfilename": item["path"], "size": item["size"], "blobId": item["oid"]}
        if "lfs" in item:
            lfs = item["lfs"]
            sibling["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
        siblings.append(sibling)
    return siblings


def _config(content: bytes | None) -> dict[str, Any]:
    try:
        config = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    kept = {key: config[key] for key in _CONFIG_KEYS if key in config}
    try:
        json.dumps(kept, allow_nan=False).encode()
    except ValueError:  # NaN, or half a surrogate pair
        return {}
    return kept
