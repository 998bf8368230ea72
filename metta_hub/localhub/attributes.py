"""Which files of a repo are large ones (`.gitattributes`), and which are not wanted (`.gitignore`)."""

from collections.abc import Callable
from pathlib import PurePosixPath

from metta_hub.localhub.globs import GitPattern

ATTRIBUTES = ".gitattributes"

_LFS = "filter=lfs diff=lfs merge=lfs -text"
_LARGE = (
    "*.7z *.arrow *.avi *.bin *.bz2 *.ckpt *.ftz *.gguf *.gif *.gz *.h5 *.joblib *.lz4 *.mkv *.mlmodel "
    "*.model *.mov *.mp4 *.mpt *.msgpack *.npy *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth "
    "*.rar *.safetensors *.tar *.tar.* *.tflite *.tgz *.wasm *.webm *.xz *.zip *.zst *tfevents*"
)
#: The `.gitattributes` of a new repo.
DEFAULT_ATTRIBUTES = "".join(f"{pattern} {_LFS}\n" for pattern in _LARGE.split()).encode()

_MAX_LINES = 2000


class LargeFiles:
    """Which paths the `.gitattributes` files of one revision send to LFS.

    Args:
        read: the content of a file of that revision, or None.
    """

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._known: dict[str, list[tuple[GitPattern, bool]]] = {}

    def includes(self, path: str) -> bool:
        """Whether `path` is a large file. The deepest file's last matching line decides."""
        large = False
        for folder in reversed(PurePosixPath(path).parents):
            base = "" if str(folder) == "." else f"{folder}/"
            for pattern, is_large in self._patterns(base):
                if is_large != large and pattern.fits(path.removeprefix(base)):
                    large = is_large
        return large

    def _patterns(self, base: str) -> list[tuple[GitPattern, bool]]:
        if base not in self._known:
            self._known[base] = found = []
            for line in _lines(self._read(base + ATTRIBUTES) or b""):
                pattern, *attributes = line.split()
                filters = [word for word in attributes if word.lstrip("-!").partition("=")[0] == "filter"]
                if filters:
                    found.append((GitPattern(pattern), filters[-1] == "filter=lfs"))
        return self._known[base]


def lfs_line(path: str) -> bytes:
    """The `.gitattributes` line that sends exactly `path` to LFS."""
    quoted = "".join(f"\\{c}" if c in "*?[]\\" else c for c in path).replace(" ", "[[:space:]]")
    return f"/{quoted} {_LFS}\n".encode()


class UnwantedFiles:
    """Which paths a `.gitignore` text leaves out.

    Args:
        text: the content of the file.
    """

    def __init__(self, text: bytes) -> None:
        self._patterns = [(GitPattern(line.removeprefix("!")), not line.startswith("!")) for line in _lines(text)]

    def includes(self, path: str) -> bool:
        """Whether `path`, or a folder that it is in, is left out."""
        folders = [str(folder) for folder in PurePosixPath(path).parents if str(folder) != "."]
        return any(self._leaves_out(folder, is_folder=True) for folder in folders) or self._leaves_out(path)

    def _leaves_out(self, path: str, *, is_folder: bool = False) -> bool:
        unwanted = False
        for pattern, says in self._patterns:
            if says != unwanted and pattern.fits(path, is_folder=is_folder):
                unwanted = says
        return unwanted


def _lines(text: bytes) -> list[str]:
    """The lines that say something."""
    lines = (line.strip() for line in text.decode("utf-8", "replace").splitlines()[:_MAX_LINES])
    return [line for line in lines if line and not line.startswith("#")]
