"""How large the files are, and how often each process runs."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """The scale of a run.

    Attributes:
        large: bytes of the large checkpoint.
        medium: bytes of the one that memory is compared with.
        small: bytes of the small one.
        few: tensors of each of them.
        many: tensors of the large one with many.
        listed: tensors of the checkpoints that are only listed.
        pushed: bytes of the checkpoint that is pushed.
        rounds: counted runs.
        layers: of the policy that is loaded.
        width: of each of its layers.
        checkpoints: how many small ones.
        checkpoint: bytes of each of them.
    """

    large: int = 1024 * MIB
    medium: int = 100 * MIB
    small: int = 10 * MIB
    few: int = 16
    many: int = 16_384
    listed: tuple[int, int] = (10, 10_240)
    pushed: int = 256 * MIB
    rounds: int = 9
    layers: int = 64
    width: int = 2048
    checkpoints: int = 500
    checkpoint: int = MIB


FULL = Sizes()
QUICK = Sizes(
    large=128 * MIB, medium=32 * MIB, many=2048, listed=(10, 1024), pushed=32 * MIB, rounds=3, layers=16, checkpoints=50
)
