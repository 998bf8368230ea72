"""The one door to a Hub: the only caller of huggingface_hub's API. Its errors become ours here.

Every call that reads takes a commit, never a branch: a command resolves a revision once (`Hub.resolve`) and then
sees one state, whatever others publish meanwhile.
"""

from metta_hub.hub.connection import Hub
from metta_hub.hub.nouns import Account, Changes, Committed, RemoteFile, RepoInfo, Upload

__all__ = ["Account", "Changes", "Committed", "Hub", "RemoteFile", "RepoInfo", "Upload"]
