"""A part of a published file, by range request."""

from collections.abc import Iterator, Mapping

from huggingface_hub.utils import get_session, hf_raise_for_status


def read(url: str, headers: Mapping[str, str], start: int, size: int) -> bytes:
    """Read `size` bytes at `start`; more or fewer when the server sends something else, but never much more."""
    wanted = {**headers, "Range": f"bytes={start}-{start + size - 1}", "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=wanted, follow_redirects=True) as answer:
        hf_raise_for_status(answer)
        return _at_most(answer.iter_bytes(), size)


def _at_most(chunks: Iterator[bytes], size: int) -> bytes:
    """Join chunks, stopping as soon as more than was asked for has arrived."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > size:
            break
    return bytes(content)
