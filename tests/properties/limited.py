"""A process that reads what may be damaged: with bounded memory, and given up when it does not answer.

Run as a script it is that process. It never imports torch: what it reads it reads as `inspect`, `verify` and `push` do.
"""

import faulthandler
import hashlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path

#: Bytes of address space beyond what the process has when it starts. The largest files here have 100 kB.
MEMORY = 512 << 20
#: Seconds after which a question without an answer counts as a hang. A busy machine takes a thousandth of it.
PATIENCE = 120


class Limited:
    """Asks the process; starts another when one has died."""

    def __enter__(self):
        self._process = None
        return self

    def __exit__(self, *_):
        self._stop()

    def ask(self, kind, *paths):
        """What became of a file: a dict with `refused` (class and sentence), or the facts of its kind."""
        process = self._started()
        process.stdin.write(json.dumps([kind, *map(str, paths)]) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], PATIENCE)[0]:
            process.send_signal(signal.SIGABRT)  # it says where it is
            raise AssertionError(f"{kind}: no answer in {PATIENCE} seconds\n{process.communicate()[1]}")
        line = process.stdout.readline()
        if not line:
            _, said = process.communicate()
            self._process = None
            raise AssertionError(f"{kind}: the process died with {process.returncode}\n{said}")
        answer = json.loads(line)
        assert "crash" not in answer, answer["crash"]
        return answer

    def _started(self):
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "properties.limited"],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_OFFLINE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        return self._process

    def _stop(self):
        if self._process is not None:
            self._process.communicate()


# --- in the process ---


def _weights(path):
    """Every tensor, read twice: as it is, and from the mirror that a push would publish."""
    from metta_hub import containers
    from metta_hub.containers import copying, safetensors, torch_file

    path = Path(path)
    kind = containers.sniff(path)
    table = safetensors.read(path) if kind == safetensors.CONTAINER else torch_file.read(path).weights
    tensors = _digests(table)
    mirror = path.with_name("limited.safetensors")
    try:
        safetensors.write(table, mirror)
        mirrored = safetensors.read(mirror)
        assert sorted(_digests(mirrored)) == sorted(tensors)
        assert all(result.equal for result in copying.compare(table, mirrored))
    finally:
        mirror.unlink(missing_ok=True)
    return {"tensors": tensors}


def _bundle(path):
    """Every tensor of a bundle, and of the mirror that a push would publish."""
    from metta_hub.containers import copying, safetensors
    from metta_hub.formats import bundle

    table = bundle.read(Path(path)).weights
    tensors = _digests(table)
    mirror = Path(path).with_name("limited.safetensors")
    try:
        safetensors.write(table, mirror)
        assert sorted(_digests(safetensors.read(mirror))) == sorted(tensors)
        assert all(result.equal for result in copying.compare(table, safetensors.read(mirror)))
    finally:
        mirror.unlink(missing_ok=True)
    return {"tensors": tensors}


def _digests(table):
    from metta_hub.containers import copying

    return [
        (info.name, info.dtype, list(info.shape), hashlib.sha256(copying.read_tensor(table, info)).hexdigest())
        for info in table.tensors
    ]


def _inspect(path):
    """What `metta-hub inspect` says of a path, plain or not."""
    from metta_hub.api.inspect import inspect

    found = inspect(path)
    return {"format": found.format, "tensors": len(found.tensors)}


def _restore(recipe, mirror):
    """The sha256 of what a recipe gives back."""
    from metta_hub.containers import copying, safetensors
    from metta_hub.containers import recipe as recipes

    target = Path(recipe).with_name("limited.pt")
    try:
        written = recipes.restore(Path(recipe).read_bytes(), safetensors.read(Path(mirror)), target)
        assert copying.digest(target) == written
        return {"sha256": written.sha256}
    finally:
        target.unlink(missing_ok=True)


def _metadata(path):
    """Values and repairs of the JSON of a pair."""
    from metta_hub import metadata

    known = metadata.parse(Path(path).read_bytes(), path)
    written = metadata.dumps({**known.values, metadata.BLOCK: metadata.block_for(known)})
    again = metadata.parse(written, path)
    twice = metadata.dumps({**again.values, metadata.BLOCK: metadata.block_for(again)})
    complete = dict.fromkeys(metadata.REQUIRED) | dict(known.values)
    return {
        "values": known.values,
        "block": known.block,
        "foreign": known.foreign_block,
        "repairs": [(repair.pointer, repair.was) for repair in known.repairs],
        "again": again.values == complete and twice == written,
    }


def _index(path):
    """The entries of an index, and whether it is the same when it is written and read again."""
    from dataclasses import asdict

    from metta_hub import index

    found = index.parse(Path(path).read_bytes())
    again = index.dumps(found)
    return {
        "root": found.root,
        "entries": [asdict(entry) for entry in found.entries],
        "again": index.parse(again) == found and index.dumps(index.parse(again)) == again,
    }


def _config(path):
    """Whether a config.json is what it was."""
    from metta_hub.formats import repo

    return {"intact": repo.parse_config(Path(path).read_bytes()).intact}


def _repo(folder):
    """What reading and verifying a repo folder come to."""
    from metta_hub.api.verify import verify
    from metta_hub.errors import MettaHubError
    from metta_hub.formats import repo

    verified = verify(folder)
    try:
        tensors = _digests(repo.read(Path(folder)).weights)
    except (MettaHubError, OSError) as error:
        tensors = str(error)
    return {"ok": verified.ok, "tensors": tensors}


def _record(path):
    """What an old file holds, and whether the pair that migration makes of it holds the same."""
    import shutil

    from metta_hub import formats, metadata
    from metta_hub.api.migrate import migrate

    path, out = Path(path), Path(path).with_name("migrated")
    found = formats.read(path)
    tensors = _digests(found.weights)
    try:
        done = migrate(path, output=out)
        assert not done.failed, done.failed
        for item in done.migrated:
            again = formats.read(item.target)
            assert again.origin.findings.plain
            assert _digests(again.weights) == tensors
            expected = dict.fromkeys(metadata.REQUIRED) | dict(found.metadata.values)
            assert {**again.metadata.values, "uri": None} == {**expected, "uri": None}
    finally:
        shutil.rmtree(out, ignore_errors=True)
    values = {key: value for key, value in found.metadata.values.items() if key != "uri"}
    return {"tensors": tensors, "values": values, "migrated": len(done.migrated)}


def _sharded(path):
    from metta_hub.formats import sharded

    return {"tensors": _digests(sharded.read(Path(path)).weights)}


def _bomb(_):
    return {"size": len(bytes(2 * MEMORY))}


_KINDS = {
    "bomb": _bomb,
    "bundle": _bundle,
    "weights": _weights,
    "inspect": _inspect,
    "recipe": _restore,
    "metadata": _metadata,
    "index": _index,
    "config": _config,
    "repo": _repo,
    "sharded": _sharded,
    "record": _record,
}


def _answer(kind, *paths):
    from metta_hub.errors import MettaHubError

    try:
        return _KINDS[kind](*paths)
    except (MettaHubError, FileNotFoundError) as error:
        return {"refused": [type(error).__name__, str(error)]}
    except BaseException:
        return {"crash": traceback.format_exc()}


def _main():
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import metta_hub.api.inspect
    import metta_hub.api.verify  # noqa: F401 - what is imported now does not count as taken by a file

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGESIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(*json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
