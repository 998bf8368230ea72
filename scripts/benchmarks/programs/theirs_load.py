"""The Hub's mixin: milliseconds until a saved network has given its first output; imports are done before. FOLDER."""

import contextlib
import json
import sys
import time

import torch
from chain import Chain

started = time.perf_counter()
with contextlib.redirect_stdout(sys.stderr):  # the mixin says what it does
    network = Chain.from_pretrained(sys.argv[1])
with torch.no_grad():
    out = network(torch.ones(1, network.layers[0].in_features))
assert out.isfinite().all()
print(json.dumps({"ms": 1000 * (time.perf_counter() - started)}))
