"""Bytes on disk <-> the table of weights, without torch.

`torch_zip` and `safetensors` read and write containers, `torch_legacy` reads one, `torch_file` is whichever of torch's
two a file is; `recipe` keeps what a `.pt` has besides its tensors; `copying` moves the bytes; `pickles` is the inert
unpickler. `sniff` says which container a file is.
"""

import re
from pathlib import Path

#: torch's magic number (torch.serialization.MAGIC_NUMBER), as each pickle protocol spells it that torch.save can be
#: told to use; from the fourth on there is a frame around it.
_LEGACY_MAGIC = re.compile(
    rb"(\x80[\x02\x03]|\x80[\x04\x05]\x95.{8})\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.|L119547037146038801333356L\n\.",
    re.DOTALL,
)

#: The first member of a PyTorch zip: a folder, and one of the names that torch.save or torch.jit.save gives.
_TORCH_MEMBER = re.compile(
    rb"[^/]+/(data\.pkl|data/|code/|version|byteorder|\.format_version|\.storage_alignment|\.data/)"
)

#: Where a tar archive says that it is one; and members of PyTorch's oldest checkpoints
#: (torch.serialization.legacy_load names the last three).
_TAR_MAGIC = 257
_TORCH_TAR = frozenset({b"sys_info", b"pickle", b"tensors", b"storages"})

#: First bytes that tell.
HEAD = 512


def sniff(path: Path) -> str:
    """What a file is, by its first bytes.

    Returns:
        "torch zip", "torch legacy", "safetensors", "torch tar", "zip", "tar", "pickle", or "unknown".

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return kind(file.read(HEAD), path.stat().st_size)


def kind(head: bytes, size: int) -> str:
    """What a file of so many bytes is; the words are those of `sniff`."""
    if head.startswith(b"PK\3\4"):
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return "torch zip" if _TORCH_MEMBER.match(name) else "zip"
    if _LEGACY_MAGIC.match(head):
        return "torch legacy"
    if head[_TAR_MAGIC : _TAR_MAGIC + 5] == b"ustar":
        return "torch tar" if head.split(b"\0", 1)[0] in _TORCH_TAR else "tar"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    return "pickle" if re.match(rb"\x80[\x02-\x05]", head) else "unknown"
