"""Which files make one checkpoint, by their names alone: whatever order they come in, each belongs to one."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metta_hub import names
from metta_hub.api import migrating
from metta_hub.api.survey import bundles
from metta_hub.api.survey.bundles import Bundle
from metta_hub.api.survey.places import Batch, File, Folder, Place
from metta_hub.formats import bundle_spec

Kind = Literal["file", "pair", "sharded", "bundle", "repo"]

#: Endings of files that hold something else, whatever they begin with. Others are looked into: a state dict may have
#: any name.
_OTHERS = re.compile(
    r"\.(bash|bmp|bz2|c|cfg|conf|cpp|css|csv|cu|gif|go|gz|h|html?|ini|ipynb|jpe?g|jsonl?|js|lock|log|lz4|md|mkv|mov|mp3|mp4"
    r"|np[yz]|parquet|pdf|png|proto|pyc?|rs|rst|sh|so|sql|svg|tmp|toml|ts|[ct]sv|txt|wav|webm|webp|whl|xml|xz|ya?ml|z|zst)\Z",
    re.IGNORECASE,
)
_PT, _JSON, _INDEX = ".pt", ".json", ".safetensors.index.json"
#: What huggingface_hub and transformers call the files of sharded weights.
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be one checkpoint.

    Attributes:
        kind: what its names say that it is.
        path: as a user would name it.
        main: the file that is looked into; of a folder its index or specification.
        document: the JSON beside it.
        bundle: what it says, if it is one.
        files: how many files it is made of.
        bytes: of all of them.
        fresh: those of them that were not counted under another name of the same file.
        missing: what should be there and is not, in words.
        is_new: whether migrate would leave it as it is, whatever it holds: for its name, or because it has a pair.
    """

    kind: Kind
    path: str
    main: File
    files: int
    bytes: int
    fresh: int
    document: File | None = None
    bundle: Bundle | None = None
    missing: str = ""
    is_new: bool = True


class Grouping:
    """Puts the files of a place together.

    Args:
        place: what is surveyed.
        count: told of every regular file, once; says how many bytes of it nobody has counted.
    """

    def __init__(self, place: Place, count: Callable[[File], int]) -> None:
        self._place = place
        self._count = count

    def candidates(self, batch: Batch) -> Iterator[Candidate]:
        """What may be checkpoints; of the other files every byte is counted, and nothing said."""
        folder = batch.folder
        if _is_part_of_repo(folder):
            return
        if index := _index_of_repo(folder):
            if batch.first:
                both = (file for name in ("", names.FOLDER) for file in folder.files_in(name))
                yield self._made("repo", folder.path, index, both)
            return
        found = self._bundle(folder)
        if found is not None and batch.first:
            yield self._of_bundle(folder, found)
        taken = frozenset() if found is None else frozenset({bundle_spec.SPEC, found.data})
        for file in batch.files:
            if file.name not in taken:
                yield from self._of(file, folder, taken)

    def single(self, folder: Folder, file: File) -> Iterator[Candidate]:
        """The checkpoint that one file alone is, given either file of a pair, or a bundle's specification."""
        found = self._bundle(folder) if file.name == bundle_spec.SPEC else None
        if found is not None:
            yield self._of_bundle(folder, found)
            return
        weights = folder.file(file.name.removesuffix(_JSON) + _PT) if file.name.endswith(_JSON) else None
        candidates = list(self._of(weights or file, folder, frozenset()))
        yield from candidates or [self._made("file", file.path, file, [file])]

    def _of(self, file: File, folder: Folder, taken: frozenset[str]) -> Iterator[Candidate]:
        """What a file is; nothing when it is nothing, or another file of the folder stands for it."""
        name = file.name
        if name.endswith(_INDEX):
            yield self._sharded(file, folder, taken)
        elif _stands_for(name, folder, taken):
            return
        elif document := _document_of(name, folder, taken):
            is_new = _is_new(name, folder)
            yield self._made("pair", file.path, file, [file, document], document=document, is_new=is_new)
        elif _OTHERS.search(name):
            self._count(file)
        else:
            yield self._made("file", file.path, file, [file], is_new=_is_new(name, folder))

    def _sharded(self, index: File, folder: Folder, taken: frozenset[str]) -> Candidate:
        shards, claimed = [], 0
        for file in folder.files_in(""):
            shard = None if file.name in taken else _SHARD.fullmatch(file.name)
            if shard and shard[1] == index.name.removesuffix(_INDEX):
                shards.append(file)
                claimed = max(claimed, int(shard[2]))
        missing = "some of its files are missing" if claimed > len(shards) else ""
        return self._made("sharded", index.path, index, [index, *shards], missing=missing)

    def _bundle(self, folder: Folder) -> Bundle | None:
        """The bundle that a folder is; a pair is more than a bundle of its `.pt` would be."""
        found = bundles.in_folder(self._place, folder)
        is_pair = found is not None and _document_of(found.data, folder, frozenset({bundle_spec.SPEC})) is not None
        return None if is_pair else found

    def _of_bundle(self, folder: Folder, found: Bundle) -> Candidate:
        spec = folder.file(bundle_spec.SPEC)
        data = folder.file(found.data) if found.data else None
        files = [file for file in (data, spec) if file is not None]
        return self._made("bundle", folder.path, files[0], files, bundle=found)

    def _made(
        self,
        kind: Kind,
        path: str,
        main: File,
        files: Iterable[File],
        *,
        document: File | None = None,
        bundle: Bundle | None = None,
        missing: str = "",
        is_new: bool = True,
    ) -> Candidate:
        number = size = fresh = 0
        for file in files:
            number += 1
            size += file.size
            fresh += self._count(file)
        return Candidate(kind, path, main, number, size, fresh, document, bundle, missing, is_new)


def _is_new(name: str, folder: Folder) -> bool:
    """Whether migrate would not look at a file, or finds its pair beside it, or what it is the backup of."""
    if not migrating.looks_old(name):
        return True
    kept_of = name.removesuffix(migrating.BACKUP)
    beside = migrating.beside(Path(name)).name if kept_of == name else kept_of
    return folder.file(beside) is not None


def _stands_for(name: str, folder: Folder, taken: frozenset[str]) -> bool:
    """Whether another file of the folder stands for this one: the `.pt` of a pair, or the index of sharded weights."""
    others = []
    if name.endswith(_JSON) and name != _JSON:
        others.append(name.removesuffix(_JSON) + _PT)
    if shard := _SHARD.fullmatch(name):
        others.append(shard[1] + _INDEX)
    return any(other not in taken and folder.file(other) is not None for other in others)


def _document_of(name: str, folder: Folder, taken: frozenset[str]) -> File | None:
    """The JSON of a pair, given the name of its `.pt`."""
    document = name.removesuffix(_PT) + _JSON
    is_pair = name.endswith(_PT) and name != _PT and document not in taken and not document.endswith(_INDEX)
    return folder.file(document) if is_pair else None


def _index_of_repo(folder: Folder) -> File | None:
    """The index of a repo folder; None when it is none."""
    return None if _is_checkpoints(folder.path) else folder.file("index.json", below=names.FOLDER)


def _is_part_of_repo(folder: Folder) -> bool:
    """Whether the folder above is a repo folder, and this is where it has its checkpoints."""
    above = folder.path.rstrip("/").rpartition("/")[0]
    is_below = _is_checkpoints(folder.path) and not _is_checkpoints(above) and not folder.is_top
    return is_below and folder.file("index.json") is not None


def _is_checkpoints(path: str) -> bool:
    return path.rstrip("/").rpartition("/")[2] == names.FOLDER
