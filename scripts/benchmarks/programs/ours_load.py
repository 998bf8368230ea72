"""metta_hub: milliseconds until a cached policy has given its first output; imports are done before. REPO."""

import json
import sys
import time

import huggingface_hub  # noqa: F401  (the mixin has it imported, too)
import torch

import metta_hub.policies.metta_agent

load = metta_hub.from_pretrained
started = time.perf_counter()
policy = load(sys.argv[1])
with torch.no_grad():
    out = policy.evaluate(policy.example_observation()[None])
assert out.logits.isfinite().all()
print(json.dumps({"ms": 1000 * (time.perf_counter() - started)}))
