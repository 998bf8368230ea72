"""The one door to a Hub: the only caller of huggingface_hub's API. Its errors become ours here.

Every call that reads takes a commit, never a branch: a command resolves a revision once (`Hub.resolve`) and then
sees one state, whatever others publish meanwhile.
"""

import os

from metta_hub.hub.environment import check_address

# The client reads its environment when it is imported, and cannot be imported with an address like `http://[`.
if "HF_ENDPOINT" in os.environ:
    check_address(os.environ["HF_ENDPOINT"])

from metta_hub.hub.connection import Hub
from metta_hub.hub.nouns import Account, Changes, Committed, RemoteFile, RepoInfo, Upload

__all__ = ["Account", "Changes", "Committed", "Hub", "RemoteFile", "RepoInfo", "Upload"]
