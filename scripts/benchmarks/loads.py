"""Row 8: a policy from the cache to its first output."""

from collections.abc import Iterator

from figures import Figure, times
from measure import race, run
from pushes import served
from rows import Files, fixed, milliseconds, program


def row_8(files: Files) -> Iterator[Figure]:
    """Ours from the Hub's cache, the mixin from a folder: nobody sends a byte of weights."""
    sizes, pt, folder = files.sizes, files.folder / "policy_0001.pt", files.folder / "mixin"
    run(fixed(program("build_policy", pt, folder, sizes.layers, sizes.width)))
    with served(files.folder):
        run(fixed(program("ours_push", pt, "org/policy")))
        run(fixed(program("ours_load", "org/policy", "fill")))
        contestants = {
            "ours": fixed(program("ours_load", "org/policy")),
            "theirs": fixed(program("theirs_load", folder)),
        }
        runs = race(contestants, sizes.rounds, seed=8)
    work = f"from_pretrained of {pt.stat().st_size >> 20} MiB to first output"
    yield times(8, work, "PyTorchModelHubMixin", runs["ours"], runs["theirs"], 0.12, milliseconds)
    yield Figure(8, work, "ms", runs["ours"].least(milliseconds), runs["ours"].median(milliseconds), None)
