"""Does whatever clients do to repos, at random, in a process of its own, until it is stopped.

    anything.py ENDPOINT TOKEN SEED LOG

A line of the log is an HTTP status, 200 for all that went well, or 0 when there was no answer.
"""

import io
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http, disable_progress_bars

#: What the client's transport raises; it has another name in older versions.
BROKEN = (getattr(_http, "httpx2", None) or _http.httpx).HTTPError


def do(api: HfApi, dice: random.Random, repo: str) -> None:
    """One of the things that clients do to a repo."""
    name = f"x{dice.randrange(10**9)}"
    match dice.randrange(9):
        case 0 | 1:
            api.create_repo(repo, exist_ok=True)
        case 2:
            api.delete_repo(repo)
        case 3:
            api.move_repo(repo, f"{repo}-b")
            api.move_repo(f"{repo}-b", repo)
        case 4:
            api.create_branch(repo, branch=name)
            api.create_tag(repo, tag=name, tag_message="x")
            api.delete_branch(repo, branch=name)
        case 5:
            api.super_squash_history(repo)
            api.update_repo_settings(repo, gated=dice.choice(["auto", False]))
        case 6:
            large = io.BytesIO(dice.randbytes(300_000))
            api.upload_file(path_or_fileobj=large, path_in_repo=f"{name}.bin", repo_id=repo)
        case _:
            addition = [CommitOperationAdd(name, name.encode()), CommitOperationAdd(f"{name}.bin", io.BytesIO(b"w"))]
            pull = api.create_commit(repo, addition, commit_message=name, create_pr=True)
            api.merge_pull_request(repo, pull.pr_num)


def main() -> None:
    """Go on until stopped."""
    endpoint, token, seed, log = sys.argv[1:]
    constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()
    # A server that was killed is back soon: no need to wait for seconds.
    _http.time = SimpleNamespace(sleep=lambda _seconds: time.sleep(0.05), time=time.time)
    dice = random.Random(seed)
    api = HfApi(endpoint=endpoint, token=token)
    with Path(log).open("a") as file:
        while True:
            try:
                do(api, dice, f"org/nav{dice.randrange(3)}")
                status = 200
            except HfHubHTTPError as error:
                status = error.response.status_code
            except (OSError, RuntimeError, BROKEN):
                status = 0
                time.sleep(0.05)
            file.write(f"{status}\n")
            file.flush()


if __name__ == "__main__":
    main()
