"""metta_hub: one container into the other, each byte checked. SOURCE TARGET."""

import sys
from pathlib import Path

from metta_hub.containers import safetensors, torch_file, torch_zip

source, target = Path(sys.argv[1]), Path(sys.argv[2])
if target.suffix == ".safetensors":
    safetensors.write(torch_file.read(source).weights, target, hashed=False)
else:
    torch_zip.write(safetensors.read(source), target, archive_name=target.stem, hashed=False)
