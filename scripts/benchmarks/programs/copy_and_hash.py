"""cp, then the sha256 of both files, one after the other. SOURCE TARGET."""

import hashlib
import subprocess
import sys
from pathlib import Path

subprocess.run(["cp", "--reflink=never", *sys.argv[1:3]], check=True)
for name in sys.argv[1:3]:
    with Path(name).open("rb") as file:
        print(hashlib.file_digest(file, "sha256").hexdigest())
