"""metta_hub: milliseconds until a cached policy has given its first output; imports are done before. REPO [fill].

With `fill` the Hub is asked, and the cache filled; without nobody is asked, as the mixin asks nobody about a folder.
"""

import json
import sys
import time

import torch

import metta_hub.hub  # with the client, which the mixin has imported, too
import metta_hub.policies.metta_agent

load = metta_hub.from_pretrained
started = time.perf_counter()
policy = load(sys.argv[1], local_files_only="fill" not in sys.argv)
with torch.no_grad():
    out = policy.evaluate(policy.example_observation()[None])
assert out.logits.isfinite().all()
print(json.dumps({"ms": 1000 * (time.perf_counter() - started)}))
