"""Make a checkpoint as torch.save does: so many float32 tensors, so many bytes in all. PATH TENSORS BYTES [mirror]."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

path, tensors, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(tensors)
columns = 64
rows = size // tensors // 4 // columns
state = {f"layers.{index}.weight": torch.randn(rows, columns) for index in range(tensors)}
torch.save(state, path)
if "mirror" in sys.argv:
    save_file(state, path.with_suffix(".safetensors"))
