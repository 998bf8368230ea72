"""metta_hub: push a checkpoint; says how many bytes it read in all, and from the first sent byte on. PATH REPO."""

import json
import sys
from pathlib import Path

import metta_hub


def bytes_read() -> int:
    """What this process asked of the file system so far; sockets don't count."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


before_sending = []
pushed = metta_hub.push(
    sys.argv[1], sys.argv[2], report=lambda verb, _: before_sending.append(bytes_read()) if verb == "send" else None
)
done = bytes_read()
sent = done - before_sending[0] if before_sending else 0
print(json.dumps({"read": done, "read_sending": sent, "sent": pushed.sent, "changed": pushed.changed}))
