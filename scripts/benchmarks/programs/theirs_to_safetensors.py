"""torch and safetensors: the fastest of the usual ways. SOURCE TARGET."""

import sys

import torch
from safetensors.torch import save_file

save_file(torch.load(sys.argv[1], map_location="cpu", weights_only=True, mmap=True), sys.argv[2])
