"""The rows of the table: what runs against what. The numbers and the goals are those of the project's design."""

import sys
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, faster, more, times
from measure import Contestant, Run, Runs, race, run
from sizes import Sizes

PROGRAMS = Path(__file__).parent / "programs"
BIN = Path(sys.executable).parent


def program(name: str, *arguments: object) -> list[str]:
    """The command that runs one of `programs`."""
    return [sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]


def fixed(command: list[str], *written: Path) -> Contestant:
    """A contestant whose command is the same in every round."""
    return Contestant(lambda _: command, written)


class Files:
    """The checkpoints, each made when it is first asked for."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes

    def pt(self, tensors: int, size: int) -> Path:
        """A `.pt` of so many tensors and bytes; its mirror lies beside it."""
        path = self.folder / f"{tensors}-{size}.pt"
        if not path.exists():
            run(fixed(program("build", path, tensors, size, "mirror")))
        return path

    @property
    def target(self) -> Path:
        """Where a conversion writes."""
        return self.folder / "target"


def _conversion(files: Files, source: Path, target: Path, theirs: str, seed: int) -> dict[str, Runs]:
    contestants = {
        "cp": fixed(["cp", "--reflink=never", str(source), str(target)], target),
        "ours": fixed(program("ours_convert", source, target), target),
        "theirs": fixed(program(theirs, source, target), target),
        "python": fixed([sys.executable, "-c", "pass"]),
    }
    return race(contestants, files.sizes.rounds, seed)


def row_1(files: Files) -> Iterator[Figure]:
    """A large `.pt` of few tensors into safetensors."""
    sizes, target = files.sizes, files.target.with_suffix(".safetensors")
    source, medium = files.pt(sizes.few, sizes.large), files.pt(sizes.few, sizes.medium)
    runs = _conversion(files, source, target, "theirs_to_safetensors", seed=1)
    less = race({"ours": fixed(program("ours_convert", medium, target), target)}, min(3, sizes.rounds), 1)
    work = f".pt to safetensors, {source.stat().st_size >> 20} MiB, {sizes.few} tensors"
    yield times(1, work, "cp", runs["ours"], runs["cp"], 1.4)
    yield faster(1, work, "torch (mmap) + save_file", runs["ours"], runs["theirs"], 6)
    yield more(1, work, "bare Python", runs["ours"], runs["python"], 32)
    yield more(1, work, f"the same with {medium.stat().st_size >> 20} MiB", runs["ours"], less["ours"], 4)


def row_2(files: Files) -> Iterator[Figure]:
    """The same with many tensors."""
    sizes, target = files.sizes, files.target.with_suffix(".safetensors")
    source = files.pt(sizes.many, sizes.large)
    runs = _conversion(files, source, target, "theirs_to_safetensors", seed=2)
    work = f"the same, {sizes.many:,} tensors"
    yield times(2, work, "cp", runs["ours"], runs["cp"], 2.5)
    yield faster(2, work, "torch (mmap) + save_file", runs["ours"], runs["theirs"], 4)


def row_3(files: Files) -> Iterator[Figure]:
    """A small one."""
    sizes, target = files.sizes, files.target.with_suffix(".safetensors")
    source = files.pt(sizes.few, sizes.small)
    runs = _conversion(files, source, target, "theirs_to_safetensors", seed=3)
    work = f"the same, {source.stat().st_size >> 20} MiB"
    yield faster(3, work, "torch (mmap) + save_file", runs["ours"], runs["theirs"], 25)


def row_4(files: Files) -> Iterator[Figure]:
    """Row 1 with the sha256 of both files."""
    sizes, target = files.sizes, files.target.with_suffix(".safetensors")
    source = files.pt(sizes.few, sizes.large)
    contestants = {
        "ours": fixed(program("ours_convert_hashed", source, target), target),
        "cp": fixed(program("copy_and_hash", source, target), target),
    }
    runs = race(contestants, sizes.rounds, seed=4)
    yield times(4, "row 1 with sha256 of both files", "cp, then two hashes", runs["ours"], runs["cp"], 0.6)


def row_5(files: Files) -> Iterator[Figure]:
    """From safetensors into a `.pt`."""
    sizes, target = files.sizes, files.target.with_suffix(".pt")
    source = files.pt(sizes.few, sizes.large).with_suffix(".safetensors")
    runs = _conversion(files, source, target, "theirs_to_pt", seed=5)
    work = f"safetensors to .pt, {source.stat().st_size >> 20} MiB"
    yield times(5, work, "cp", runs["ours"], runs["cp"], 2.0)
    yield faster(5, work, "load_file + torch.save", runs["ours"], runs["theirs"], 6)
    yield more(5, work, "bare Python", runs["ours"], runs["python"], 32)


def milliseconds(run: Run) -> float:
    """What a program timed itself."""
    return float(run.facts["ms"])


def row_6(files: Files) -> Iterator[Figure]:
    """List tensors, in a process that runs already."""
    for tensors, goal in zip(files.sizes.listed, (0.2, 150), strict=True):
        path = files.pt(tensors, files.sizes.medium)
        contestants = {"ours": fixed(program("ours_list", path)), "theirs": fixed(program("theirs_list", path))}
        runs = race(contestants, files.sizes.rounds, seed=6)
        work = f"list {tensors:,} tensors, in process"
        least, median = runs["ours"].least(milliseconds), runs["ours"].median(milliseconds)
        yield Figure(6, work, "ms", least, median, goal)
        yield times(6, work, "torch.load (mmap)", runs["ours"], runs["theirs"], 1.0, milliseconds)


def row_7(files: Files) -> Iterator[Figure]:
    """Start-up."""
    path = files.pt(files.sizes.few, files.sizes.small)
    contestants = {
        "help": fixed([str(BIN / "metta-hub"), "--help"]),
        "hf": fixed([str(BIN / "hf"), "--help"]),
        "inspect": fixed([str(BIN / "metta-hub"), "inspect", str(path)]),
        "torch": fixed([sys.executable, "-c", "import torch"]),
    }
    runs = race(contestants, files.sizes.rounds, seed=7)
    yield times(7, "metta-hub --help", "hf --help", runs["help"], runs["hf"], 0.3)
    yield times(7, "metta-hub inspect FILE", "import torch", runs["inspect"], runs["torch"], 0.25)
