"""torch: milliseconds to list the tensors of a `.pt` in a running process, the least of several. PATH."""

import json
import sys
import time

import torch


def once(path: str) -> float:
    """Names, dtypes and shapes."""
    started = time.perf_counter()
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    listed = [(name, tensor.dtype, tensor.shape) for name, tensor in state.items()]
    took = time.perf_counter() - started
    assert listed
    return 1000 * took


print(json.dumps({"ms": min(once(sys.argv[1]) for _ in range(5))}))
