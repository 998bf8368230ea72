"""metta_hub: milliseconds to list the tensors of a `.pt` in a running process, the least of several. PATH."""

import json
import sys
import time
from pathlib import Path

from metta_hub.containers import torch_file


def once(path: Path) -> float:
    """Names, dtypes and shapes."""
    started = time.perf_counter()
    listed = [(tensor.name, tensor.dtype, tensor.shape) for tensor in torch_file.read(path).weights.tensors]
    took = time.perf_counter() - started
    assert listed
    return 1000 * took


print(json.dumps({"ms": min(once(Path(sys.argv[1])) for _ in range(9))}))
