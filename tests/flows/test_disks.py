"""Full disks and folders that cannot be written to: an error that names the file and what it needs, nothing half-made.

The disks are real: small ones in memory and read-only mounts, in a mount namespace of the command's own. A limit on the
size of files stands for a full disk where that is simpler.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from catalogue import Markdown, Page
from support import DATA

PT = "run/model_000140.pt"
SIZE = (DATA / PT).stat().st_size
SMALL = 400_000  # bytes of a disk that the checkpoint does not fit on


def namespace():
    """The command that runs others where mounts are theirs alone: as root, or as one who may pretend to be."""
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


@pytest.fixture
def inside(tmp_path):
    """Makes the beginning of a command: mounts are made, the rest is run, and what is left is noted in `left`."""
    command = namespace()
    if command is None:
        pytest.skip("neither root nor user namespaces: no disk can be mounted")

    def begin(mount, *, look="", drop=""):
        note = f"find {look} -mindepth 1 > {tmp_path}/left" if look else "true"
        run = f'setpriv --bounding-set={drop} --inh-caps={drop} "$@"' if drop else '"$@"'
        return [*command, "sh", "-c", f"{mount} && {{ {run}; code=$?; {note}; exit $code; }}", "sh"]

    return begin


@pytest.fixture
def page(tmp_path, hub, repo_id):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(DATA / "run", here / "run")
    made = Page("Disks", here, repo_id, HOME=str(tmp_path / "home"), TMP=str(tmp_path))
    made.home = {"HF_HOME": str(tmp_path / "home")}
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A repo with a checkpoint, and a cache that holds it, made once."""
    folder, repo_id = tmp_path_factory.mktemp("store"), f"org/{uuid.uuid4().hex[:12]}"
    page, env = Page("", DATA, repo_id), {"HF_HOME": str(folder / "home")}
    assert page.call("push", PT, "org/nav", env=env).returncode == 0
    assert page.call("pull", "org/nav", folder / "out", env=env).returncode == 0
    return repo_id, folder / "home"


@pytest.fixture
def published(page, store, tmp_path):
    """org/nav holds a checkpoint; the cache holds it, too."""
    repo_id, home = store
    page.words[repo_id] = "org/nav"
    page.repo_id = repo_id
    shutil.copytree(home, tmp_path / "home", symlinks=True)


def full(folder):
    folder.mkdir(exist_ok=True)
    return f"mount -t tmpfs -o size={SMALL} tmpfs {folder}"


def read_only(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"


def left(tmp_path):
    return (tmp_path / "left").read_text().split()


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "trees" not in path.parts}


def test_pages(page, published, inside, snapshot, tmp_path):
    out, tmp, home, here = tmp_path / "out", tmp_path / "tmp", tmp_path / "home-2", page.folder
    (here / "locked").mkdir(mode=0o500)
    shutil.copy(here / PT, here / "secret.pt")
    (here / "secret.pt").chmod(0)
    env, new = page.home, {"HF_HOME": str(home)}
    page.words |= {str(out): "OUT", str(tmp): "TMP", str(home): "HOME"}
    page.run(
        "A full disk, where the pair should go", "pull", "org/nav", out, hidden=env, inside=inside(full(out), look=out)
    )
    assert left(tmp_path) == []
    page.run(
        "A full cache",
        "pull",
        "org/nav",
        "new",
        hidden=new,
        inside=inside(full(home), look=f"{home} -name '*incomplete*'"),
    )
    assert left(tmp_path) == []
    assert not (here / "new").exists()
    page.run(
        "A full folder for what is made on the way",
        "push",
        "run/model_000202.pt",
        "org/nav",
        hidden=env | {"TMPDIR": str(tmp)},
        inside=inside(full(tmp), look=tmp),
    )
    assert left(tmp_path) == []
    page.run("A read-only folder", "pull", "org/nav", out, hidden=env, inside=inside(read_only(out)))
    page.run(
        "A folder in a read-only one", "pull", "org/nav", out / "deep" / "er", hidden=env, inside=inside(read_only(out))
    )
    page.run("A read-only cache", "pull", "org/nav", "new", hidden=new, inside=inside(read_only(home)))
    page.run("A read-only cache, named", "list", "org/nav", "--cache-dir", home, inside=inside(read_only(home)))
    rights = {"drop": "-dac_override,-dac_read_search"}
    page.run(
        "A folder that is somebody else's", "pull", "org/nav", "locked", hidden=env, inside=inside("true", **rights)
    )
    page.run(
        "A file that is somebody else's", "push", "secret.pt", "org/nav", hidden=env, inside=inside("true", **rights)
    )
    page.run("A card in a read-only folder", "card", PT, "--output", out / "README.md", inside=inside(read_only(out)))
    page.check_hints()
    assert page.text() == snapshot.use_extension(Markdown)


def test_nowhere_to_put_what_is_made_on_the_way(page, inside, tmp_path):
    """No folder for temporary files takes any: not TMPDIR, none that Python knows, not the one that was typed in."""
    (tmp_path / "stuck").mkdir()
    steps = [f"mount --rbind {tmp_path} /mnt"]
    # Read-only and not hidden: the project itself may lie there.
    steps += [read_only(folder) for folder in (Path("/tmp"), Path("/var/tmp")) if folder.is_dir()]
    steps += ["cd /mnt/stuck", "mount --bind . .", "mount -o remount,bind,ro .", "cd /mnt/stuck"]
    # Nor is there a place for what coverage would note of it.
    env = {"HF_HOME": "/mnt/home", "TMPDIR": "/nowhere", "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    done = page.call("push", f"/mnt/here/{PT}", "org/nav", env=env, inside=inside(" && ".join(steps)))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Hint: TMPDIR names the folder for what is made on the way" in done.stderr


def test_a_file_that_may_not_be_read_does_not_hide_the_others(page, inside):
    """What `list` shows stands in the JSON files."""
    (page.folder / "run" / "model_000140.pt").chmod(0)
    done = page.call("list", "run", "-q", inside=inside("true", drop="-dac_override,-dac_read_search"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["model_000140", "model_000202", "model_000020"]


def test_pushing_needs_nothing_beside_the_source(page, inside, api, repo_id):
    """A run on a disk that is mounted read-only, typed from there: what is made on the way lies elsewhere."""
    done = page.call("push", "model_000140.pt", "org/nav", inside=inside(f"{read_only(page.folder / 'run')} && cd run"))
    assert done.returncode == 0, done.stderr
    assert api.repo_exists(repo_id)
    assert sorted(path.name for path in (page.folder / "run").iterdir()) == sorted(
        p.name for p in (DATA / "run").iterdir()
    )


def test_a_read_only_cache_that_has_it_will_do(page, published, inside, tmp_path):
    home = Path(page.home["HF_HOME"])
    before = files_in(home)
    done = page.call("pull", "org/nav", "after", env=page.home, inside=inside(read_only(home)))
    assert done.returncode == 0, done.stderr
    assert (page.folder / "after" / "model_000140.pt").read_bytes() == (DATA / PT).read_bytes()
    assert files_in(home) == before


# --- a limit on the size of files, at any byte ------------------------------------------------------------------------


LIMITED = """
import os, resource, sys
for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
    del os.environ[name]  # its own files would not fit, either
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


def limited(size):
    """The beginning of a command that may write no file larger than this: EFBIG in the middle of it."""
    return [sys.executable, "-c", LIMITED, str(size)]


@pytest.mark.parametrize("size", [0, 1, 4096, 300_000, SIZE - 1])
def test_an_old_pair_survives_a_full_disk_at_any_byte(page, published, size, tmp_path):
    """Nothing half-written, no temporary file, and what was there is still there, whole."""
    out = page.folder / "out"
    shutil.copytree(page.folder / "run", out)
    (out / "model_000140.json").write_text('{"epoch": 1}')
    before = files_in(out)
    done = page.call("pull", "org/nav", "out", "--force", env=page.home, inside=limited(size))
    assert done.returncode == 1
    said = done.stderr.splitlines()
    limit = "files may not be that large here, see 'ulimit -f'"
    assert said[0] == f"Error: out/model_000140.pt: no room for its {SIZE:,} bytes ({limit})."
    assert said[1].startswith("Hint: ")
    assert len(said) == 2
    assert files_in(out) == before
    done = page.call("pull", "org/nav", "out", "--force", env=page.home)
    assert done.returncode == 0
    assert (out / "model_000140.pt").read_bytes() == (DATA / PT).read_bytes()


@pytest.mark.parametrize("size", [0, 4096, 300_000])
def test_a_publication_that_finds_no_room_publishes_nothing(page, size, api, repo_id, tmp_path):
    (tmp_path / "tmp").mkdir()
    env = page.home | {"TMPDIR": str(tmp_path / "tmp")}
    done = page.call("push", PT, "org/nav", "--json", env=env, inside=limited(size))
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["type"] in {"NoRoomError", "FileError"}
    assert not api.repo_exists(repo_id)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("size", [0, 100, 300_000])
def test_a_cache_that_finds_no_room_holds_nothing_half(page, published, size, tmp_path):
    env = {"HF_HOME": str(tmp_path / "new")}
    done = page.call("pull", "org/nav", "new", env=env, inside=limited(size))
    assert done.returncode == 1
    assert "no room for it" in done.stderr
    assert "--cache-dir, or HF_HOME, names another cache" in done.stderr
    assert not [
        path
        for path in (tmp_path / "new").rglob("*")
        if path.is_file() and path.stat().st_size and "incomplete" in path.name
    ]
    assert not (page.folder / "new").exists()
    done = page.call("pull", "org/nav", "new", env=env)
    assert done.returncode == 0


def test_a_result_that_cannot_be_written_is_an_error(page, published):
    with Path("/dev/full").open("w") as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", "metta_hub", "inspect", PT],
            cwd=page.folder,
            env=os.environ,
            stdout=nowhere,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: standard output: cannot be written: No space left on device.",
        "Hint: run the same command again, with its output to where there is room",
    ]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # of this process nothing was limited
