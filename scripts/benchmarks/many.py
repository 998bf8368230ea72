"""Row 11: many small checkpoints."""

from collections.abc import Iterator

from figures import Figure, faster, times
from measure import race, run
from rows import BIN, Files, fixed, program


def row_11(files: Files) -> Iterator[Figure]:
    """State dicts into safetensors, records into pairs."""
    for kind, work, words in (("state", "convert", "state dicts"), ("record", "migrate", "records")):
        sizes, source, target = files.sizes, files.folder / f"many-{kind}", files.folder / f"made-{kind}"
        run(fixed(program("build_many", source, sizes.checkpoints, sizes.checkpoint, kind)))
        contestants = {
            "cp": fixed(["cp", "-r", "--reflink=never", str(source), str(target)], target),
            "theirs": fixed(program("theirs_many", source, target, work), target),
            "one": fixed(program("ours_many", source, target, 1, work), target),
            "two": fixed(program("ours_many", source, target, 2, work), target),
        }
        if work == "migrate":
            command = [str(BIN / "metta-hub"), "migrate", str(source), "--output", str(target), "--quiet"]
            contestants["synced"] = fixed(command, target)
        runs = race(contestants, sizes.rounds, seed=11)
        shown = f"{work} {sizes.checkpoints} {words} of {sizes.checkpoint >> 20} MiB"
        yield faster(11, shown, "torch, one by one", runs["one"], runs["theirs"], 3)
        yield faster(11, shown, "with two processes than one", runs["two"], runs["one"], 1.3)
        yield times(11, shown, "cp -r", runs["one"], runs["cp"], None)
        if "synced" in runs:
            yield times(11, shown, "cp -r, each pair synced", runs["synced"], runs["cp"], None)
