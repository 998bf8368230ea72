"""metta_hub: a `.pt` into safetensors, with the sha256 of both, as a push does it. SOURCE TARGET."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from metta_hub.containers import copying, safetensors, torch_file

source, target = Path(sys.argv[1]), Path(sys.argv[2])
with ThreadPoolExecutor(max_workers=1) as pool:
    original = pool.submit(copying.digest, source)
    written = safetensors.write(torch_file.read(source).weights, target)
    print(original.result().sha256, written.sha256)
