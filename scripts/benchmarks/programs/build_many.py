"""Make many small checkpoints: state dicts, or records as Metta pickled them. FOLDER COUNT BYTES state|record.

The records are the genuine one among the tests' data, with a larger embedding.
"""

import sys
from pathlib import Path

import stand_ins  # noqa: F401  (its classes are what the record names)
import torch

folder, count, size, kind = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
source = Path(__file__).parents[3] / "tests" / "data" / "records" / "model_0005.pt"
record = torch.load(source, map_location="cpu", weights_only=False)
agent = vars(record)["_policy"]
embedding = agent.components["_action_embeds_"].get_submodule("_net")
embedding.weight = torch.nn.Parameter(torch.randn((size - source.stat().st_size) // 4 // 16, 16))
folder.mkdir()
for number in range(count):
    saved = agent.state_dict() if kind == "state" else record
    torch.save(saved, folder / f"model_{number:04}.pt")
