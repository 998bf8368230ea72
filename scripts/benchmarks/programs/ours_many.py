"""metta_hub: many checkpoints, nothing synced. SOURCE TARGET PROCESSES convert|migrate."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from metta_hub.formats import files

files.sync = lambda _path: None  # as cp; also in the processes that import this file anew


def convert(source: Path) -> None:
    """One state dict into safetensors."""
    from metta_hub.containers import safetensors, torch_file

    target = Path(sys.argv[2]) / f"{source.stem}.safetensors"
    safetensors.write(torch_file.read(source).weights, target, hashed=False)


def main() -> None:
    """Do what the arguments say."""
    source, target, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4] == "migrate":
        from metta_hub.api.migrate import migrate

        assert not migrate(source, output=target, jobs=processes).failed
        return
    target.mkdir()
    found = [Path(entry.path) for entry in os.scandir(source)]
    if processes == 1:
        list(map(convert, found))
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(convert, found, chunksize=16))


if __name__ == "__main__":
    main()
