"""The changes of a commit, as huggingface_hub wants them."""

import io
from collections.abc import Sequence
from contextlib import ExitStack
from typing import cast

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

from metta_hub.hub.nouns import Changes, Upload


def additions(uploads: Sequence[Upload], opened: ExitStack | None) -> list[CommitOperationAdd]:
    """The files to send, with hashes preset so that no byte is read twice.

    Args:
        uploads: what to send.
        opened: hand over open files, and close them with this; None hands over paths. An open file makes the client
            take the LFS route, whatever HF_HUB_DISABLE_XET says.
    """
    made = []
    for upload in uploads:
        addition = CommitOperationAdd(upload.path, cast("str", upload.content))
        addition.upload_info.sha256 = bytes.fromhex(upload.sha256)
        if opened is not None:
            content = upload.content
            file = io.BytesIO(content) if isinstance(content, bytes) else opened.enter_context(content.open("rb"))
            addition.path_or_fileobj = cast("str", file)
        made.append(addition)
    return made


def others(changes: Changes, parent: str) -> list[CommitOperationCopy | CommitOperationDelete]:
    """The files to copy on the server, from where they stand in `parent`, and those to remove."""
    copies = [
        CommitOperationCopy(src_path_in_repo=source, path_in_repo=target, src_revision=parent)
        for source, target in changes.copies
    ]
    return [*copies, *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in changes.deletes)]
