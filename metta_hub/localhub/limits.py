"""How much the embedded Hub takes, sends at once, and keeps."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(slots=True)
class Limits:
    """Bounds of one Hub; tests lower them.

    Attributes:
        json_body: bytes of an ordinary JSON body.
        commit_body: bytes of a whole commit (NDJSON).
        commit_line: bytes of one line of it.
        commit_lines: lines of it.
        push_body: bytes of a git push.
        git_object: bytes of one object of a push, which is taken into memory.
        fetch_body: bytes of a git fetch's request, also when they are unpacked.
        regular_file: files over this many bytes must go to LFS.
        lfs_object: bytes of one LFS object.
        multipart_threshold: LFS objects over this many bytes are uploaded in parts.
        part_size: bytes of one such part; more for objects that would have over a hundred.
        page: items on a page of repos or of a tree.
        detailed_page: items on a page of commits, or of a tree with its last commits.
        link_seconds: how long a signed upload or download link is good.
    """

    json_body: int = 8 * MIB
    commit_body: int = 1024 * MIB
    commit_line: int = 64 * MIB
    commit_lines: int = 25_000
    push_body: int = 2048 * MIB
    git_object: int = 64 * MIB
    fetch_body: int = 8 * MIB
    regular_file: int = 10 * MIB
    lfs_object: int = 50 * 1024 * MIB
    multipart_threshold: int = 64 * MIB
    part_size: int = 16 * MIB
    page: int = 1000
    detailed_page: int = 50
    link_seconds: int = 3600
