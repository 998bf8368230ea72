"""Commits with the official client, in a process of its own, and writes down what became of each.

    committer.py ENDPOINT TOKEN REPO NAME COUNT LOG

Commits NAME-0, NAME-1, … are made of three small files and a large one each, in a folder of their name; every second
one is pinned to the head that was seen before. A line of the log is `{"name", "outcome", "oid", "parent"}`, where the
outcome is `landed`, `refused` (412) or `unanswered`.
"""

import io
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http, disable_progress_bars

#: What the client's transport raises; it has another name in older versions.
BROKEN = (getattr(_http, "httpx2", None) or _http.httpx).HTTPError
FILES = ("a.txt", "b.json", "c/d.txt", "m.bin")


def content(name: str, file: str) -> bytes:
    """What a file of a commit holds."""
    return f"{file} of {name}\n".encode() * 100


def attempt(api: HfApi, repo: str, name: str, *, pinned: bool) -> dict[str, str | None]:
    """Try to make one commit."""
    operations = [CommitOperationAdd(f"{name}/{file}", io.BytesIO(content(name, file))) for file in FILES]
    parent = oid = None
    try:
        parent = api.model_info(repo).sha if pinned else None
        oid = api.create_commit(repo, operations, commit_message=name, parent_commit=parent).oid
        outcome = "landed"
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status != 412:
            raise
        outcome = "refused"
    except (OSError, RuntimeError, BROKEN):
        outcome = "unanswered"
    return {"name": name, "outcome": outcome, "oid": oid, "parent": parent}


def main() -> None:
    """Make the commits."""
    endpoint, token, repo, name, count, log = sys.argv[1:]
    constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()
    # A server that was killed is back soon: no need to wait for seconds.
    _http.time = SimpleNamespace(sleep=lambda _seconds: time.sleep(0.05), time=time.time)
    api = HfApi(endpoint=endpoint, token=token)
    with Path(log).open("a") as file:
        for number in range(int(count)):
            done = attempt(api, repo, f"{name}-{number}", pinned=number % 2 == 1)
            file.write(json.dumps(done) + "\n")
            file.flush()
            if done["outcome"] == "unanswered":
                time.sleep(0.05)


if __name__ == "__main__":
    main()
