"""huggingface_hub: make a repo and upload the files of a folder as one commit. FOLDER REPO."""

import sys
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

folder, repo = Path(sys.argv[1]), sys.argv[2]
files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".gitattributes")
api = HfApi()
api.create_repo(repo, exist_ok=True)
operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), str(path)) for path in files]
api.create_commit(repo, operations, commit_message="Upload")
