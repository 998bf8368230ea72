"""torch, one after the other: load each, save its state dict, of records the metadata too. SOURCE TARGET WORK."""

import json
import sys
from pathlib import Path

import torch

source, target, work = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
target.mkdir()
if work == "migrate":
    import stand_ins  # noqa: F401
else:
    from safetensors.torch import save_file
for path in source.iterdir():
    if work == "convert":
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        save_file(state, target / f"{path.stem}.safetensors")
        continue
    record = vars(torch.load(path, map_location="cpu", weights_only=False))
    torch.save(record["_policy"].state_dict(), target / path.name)
    (target / path.name).with_suffix(".json").write_text(json.dumps(record["checkpoint"], indent=2, default=str))
