"""POLICY-REPO.md keeps its word: its schemas fit what is published and nothing else, its reader gives the file back."""

import bz2
import copy
import hashlib
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import metta_hub
from support import DATA, values_of

DOCUMENT = Path(__file__).parents[2] / "POLICY-REPO.md"
PAIRS = [path for path in sorted(DATA.rglob("*.pt")) if path.with_suffix(".json").is_file()]
ONE, OTHER = DATA / "run" / "model_000140.pt", DATA / "pairs" / "resmlp" / "model_0012.pt"


def block(comment, language):
    """The fenced block of the document that stands below a comment."""
    found = re.findall(
        rf"<!-- {comment} -->\n```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(found) == 1
    return found[0]


def schema_of(kind):
    return json.loads(block(f"schema: {kind}", "json"))


SCHEMAS = {kind: schema_of(kind) for kind in ("pair", "config", "index")}
READABLE = {"$ref": "#/$defs/readable", "$defs": SCHEMAS["pair"]["$defs"]}


def complaints(schema, document):
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]


def documents(folder):
    """Every JSON document of a repo folder, with the name of its schema."""
    yield "config", json.loads((folder / "config.json").read_text())
    for path in sorted((folder / "checkpoints").glob("*.json")):
        yield "index" if path.name == "index.json" else "pair", json.loads(path.read_text())


@pytest.fixture
def download(tmp_path):
    """Fetch a repo as `hf download --local-dir` does."""
    from huggingface_hub import snapshot_download

    return lambda repo_id: Path(snapshot_download(repo_id, local_dir=tmp_path / "folder"))


@pytest.fixture
def published(repo_id, download):
    """A repo of two checkpoints, the first of which has left the root."""
    metta_hub.push(OTHER, repo_id)
    metta_hub.push(ONE, repo_id)
    return download(repo_id)


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_one(kind):
    assert SCHEMAS[kind]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(SCHEMAS[kind])


@pytest.mark.parametrize("source", PAIRS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_published_fits_the_schemas(source, repo_id, download, tmp_path):
    metta_hub.push(source, repo_id)
    found = list(documents(download(repo_id)))
    assert sorted(kind for kind, _ in found) == ["config", "index", "pair"]
    assert [complaints(SCHEMAS[kind], document) for kind, document in found] == [[], [], []]
    pulled = metta_hub.pull(repo_id, tmp_path / "pulled")
    assert complaints(SCHEMAS["pair"], values_of(pulled.json)) == []


def test_so_does_what_is_published_of_weights_alone(repo_id, download, tmp_path):
    import torch

    weight = torch.arange(6.0)
    torch.save({"a": weight, "b": weight}, tmp_path / "of mine_0003.pt")
    metta_hub.push(tmp_path / "of mine_0003.pt", repo_id, pt=False)
    metta_hub.push(ONE, repo_id, promote=False)
    found = list(documents(download(repo_id)))
    assert [complaints(SCHEMAS[kind], document) for kind, document in found] == [[]] * 4
    own = next(values for kind, values in found if kind == "pair" and values["epoch"] == 3)["metta_hub"]
    assert own.keys() == {"format_version", "original_name", "tied", "unknown", "weights"}


@pytest.mark.parametrize("source", PAIRS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_metta_wrote_is_readable(source):
    values = values_of(source.with_suffix(".json"))
    assert complaints(READABLE, values) == []
    assert complaints(READABLE, {}) == []
    assert complaints(SCHEMAS["pair"], values) != []


@pytest.mark.parametrize("value", [[], {}, True, 3.5])
def test_what_push_refuses_is_not_readable(value, run, repo_id):
    document = run / "model_000140.json"
    broken = values_of(document) | {"epoch": value}
    document.write_text(json.dumps(broken))
    assert complaints(READABLE, broken) != []
    with pytest.raises(metta_hub.errors.MetadataError):
        metta_hub.push(run / "model_000140.pt", repo_id)


DELETE = object()
BAD_NAMES = ("", "-a", "a/b", "ä", "a" * 97, "Index", "latest", "best", "a\n", 3)
BAD_HASHES = ("", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", None)
FILE = ("metta_hub", "files", "model.safetensors")
ENTRY = ("checkpoints", 0)
MUTATIONS = [
    *(("pair", (key,), DELETE) for key in ("epoch", "agent_step", "generation", "train_time", "uri", "metta_hub")),
    ("pair", ("epoch",), "140"),
    ("pair", ("epoch",), 1.5),
    ("pair", ("train_time",), "1.5"),
    ("pair", ("uri",), "/tmp/model_000140.pt"),
    ("pair", ("uri",), "file:///tmp/model 1.pt"),
    ("pair", ("metta_hub",), []),
    ("pair", ("metta_hub", "format_version"), 2),
    *(("pair", ("metta_hub", "weights", key), DELETE) for key in ("file", "size", "sha256")),
    *(("pair", ("metta_hub", "weights", "sha256"), value) for value in BAD_HASHES),
    ("pair", ("metta_hub", "weights", "size"), -1),
    ("pair", ("metta_hub", "weights", "file"), "../a.pt"),
    ("pair", ("metta_hub", "tied"), [["a"]]),
    ("pair", ("metta_hub", "unknown"), ["run_name"]),
    ("pair", ("metta_hub", "repairs"), [{"pointer": "/epoch", "was": "1"}]),
    ("pair", ("metta_hub", "redactions"), [{"pointer": "/epoch"}]),
    *(("config", (key,), DELETE) for key in ("uri", "metta_hub")),
    *(("config", ("metta_hub", key), DELETE) for key in ("checkpoint", "files", "format_version", "self")),
    *(("config", ("metta_hub", "checkpoint"), value) for value in BAD_NAMES),
    *(("config", ("metta_hub", "self"), value) for value in BAD_HASHES),
    *(("config", (*FILE, "sha256"), value) for value in BAD_HASHES),
    ("config", (*FILE, "size"), DELETE),
    ("config", ("metta_hub", "files", "checkpoints/index.json"), DELETE),
    ("config", ("metta_hub", "files", "../x"), {"size": 1, "sha256": "0" * 64}),
    ("config", ("epoch",), "140"),
    ("config", ("auto_map",), {}),
    ("config", ("model_type",), "llama"),
    *(("index", (key,), DELETE) for key in ("format_version", "root", "checkpoints")),
    *(("index", ("root",), value) for value in BAD_NAMES),
    *(("index", (*ENTRY, "name"), value) for value in BAD_NAMES),
    *(("index", (*ENTRY, key), DELETE) for key in SCHEMAS["index"]["$defs"]["checkpoint"]["required"]),
    ("index", (*ENTRY, "parameters"), -1),
    ("index", (*ENTRY, "avg_reward"), "0.5"),
    ("index", (*ENTRY, "evals"), None),
    ("index", (*ENTRY, "published_at"), "yesterday"),
    ("index", (*ENTRY, "files"), {}),
    ("index", (*ENTRY, "files", "config.json"), {"size": 1, "sha256": "0" * 64}),
    ("index", (*ENTRY, "files", "checkpoints/../a.pt"), {"size": 1, "sha256": "0" * 64}),
    *(("index", (*ENTRY, "files", "model.safetensors", "sha256"), value) for value in BAD_HASHES),
]


def changed(document, way, value):
    """A copy with something else, or nothing, in one place."""
    made = copy.deepcopy(document)
    node = made
    for step in way[:-1]:
        node = node[step]
    if value is DELETE:
        del node[way[-1]]
    else:
        node[way[-1]] = value
    return made


def test_what_is_broken_fits_none(repo_id, download):
    metta_hub.push(ONE, repo_id)
    found = dict(documents(download(repo_id)))
    passed = [
        (kind, way, value)
        for kind, way, value in MUTATIONS
        if not complaints(SCHEMAS[kind], changed(found[kind], way, value))
    ]
    assert passed == []


# --- what the document says of hashes ---------------------------------------------------------------------------------


def test_the_hash_of_config_without_writing_json(repo_id, download, tmp_path):
    import torch

    torch.save({"w": torch.zeros(4)}, tmp_path / "w.pt")
    for number, source in enumerate([ONE, tmp_path / "w.pt"]):  # in the second one, keys follow `self`
        metta_hub.push(source, f"{repo_id}-{number}")
        content = (download(f"{repo_id}-{number}") / "config.json").read_bytes()
        line = re.search(rb'(,?)\n    "self": "([0-9a-f]{64})"(,?)(?=\n)', content)
        kept = line[1] if line[3] else b""
        without = content[: line.start()] + kept + content[line.end() :]
        assert hashlib.sha256(without).hexdigest() == line[2].decode()


# --- the reader -------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(tmp_path):
    """Run the document's reader on a folder, by an interpreter that sees nothing but the standard library."""
    script, here = tmp_path / "reader.py", tmp_path / "here"
    script.write_text(block("reader", "python"))
    here.mkdir()

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, *arguments], cwd=here, capture_output=True, text=True, check=False
        )
        return done, sorted(here.iterdir())

    return call


def test_the_reader_is_short():
    lines = [line for line in block("reader", "python").splitlines() if line]
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100


def test_the_reader_gives_the_root_back(published, reader):
    done, written = reader(published)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in written] == ["model_000140.pt"]
    assert written[0].read_bytes() == ONE.read_bytes()


def test_the_reader_gives_another_back_from_mirror_and_recipe(published, reader):
    assert not list(published.rglob("model_0012.pt"))
    done, written = reader(published, "model_0012")
    assert (done.returncode, done.stderr) == (0, "")
    assert written[0].read_bytes() == OTHER.read_bytes()


@pytest.mark.parametrize("source", PAIRS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_reader_gives_every_pair_back_by_its_recipe(source, repo_id, download, reader, tmp_path):
    name = metta_hub.push(source, repo_id).checkpoint
    other = tmp_path / "other.pt"
    other.write_bytes(ONE.read_bytes())
    metta_hub.push(other, repo_id)
    done, written = reader(download(repo_id), name)
    assert (done.returncode, done.stderr) == (0, "")
    assert written[0].read_bytes() == source.read_bytes()


def test_the_reader_finds_a_pt_that_is_kept_whole(repo_id, download, reader, tmp_path):
    import torch

    odd = tmp_path / "odd_0001.pt"
    torch.save({"w": torch.arange(20000.0).reshape(100, 200).t()}, odd)
    metta_hub.push(odd, repo_id)
    metta_hub.push(ONE, repo_id)
    done, written = reader(download(repo_id), "odd_0001")
    assert (done.returncode, done.stderr) == (0, "")
    assert written[0].read_bytes() == odd.read_bytes()


def test_the_reader_says_when_only_the_mirror_is_there(repo_id, download, reader):
    metta_hub.push(ONE, repo_id, pt=False)
    done, written = reader(download(repo_id))
    assert done.returncode == 1
    assert done.stderr == "Refused: of model_000140 only the mirror is there, model.safetensors.\n"
    assert written == []


def test_the_reader_replaces_nothing(published, reader):
    reader(published)
    done, written = reader(published)
    assert done.returncode == 1
    assert "FileExistsError" in done.stderr
    assert written[0].read_bytes() == ONE.read_bytes()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("model_000140", "config.json"),
        ("model_000140", "checkpoints/index.json"),
        ("model_000140", "model_000140.pt"),
        ("model_0012", "checkpoints/model_0012.recipe"),
        ("model_0012", "checkpoints/model_0012.safetensors"),
    ],
)
def test_the_reader_refuses_a_flipped_bit(name, path, published, reader):
    content = (published / path).read_bytes()
    places = range(0, len(content), max(1, len(content) // 7))
    for place in places:
        (published / path).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        done, written = reader(published, name)
        assert done.returncode == 1
        assert written == []
        if path != "config.json":  # a flipped bit in that one may leave no JSON at all
            assert done.stderr == f"Refused: {path} is not what was published.\n"


def test_the_reader_refuses_a_longer_or_shorter_file(published, reader):
    path = published / "model_000140.pt"
    content = path.read_bytes()
    for other in (content[:-1], content + b"\0", b""):
        path.write_bytes(other)
        done, written = reader(published)
        assert done.stderr == "Refused: model_000140.pt is not what was published.\n"
        assert written == []


@pytest.mark.parametrize("name", ["model_0013", "../model_0012", ""])
def test_the_reader_knows_no_other_name(name, published, reader):
    done, written = reader(published, name)
    assert done.stderr == f"Refused: there is no {name}.\n"
    assert written == []


def sealed(folder, path, content):
    """Replace a file as somebody would who can write to the repo: every hash of the chain is renewed."""

    def record(data):
        return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    (folder / path).write_bytes(content)
    index = json.loads((folder / "checkpoints/index.json").read_text())
    for entry in index["checkpoints"]:
        if path in entry["files"]:
            entry["files"][path] = record(content)
    listed = json.dumps(index).encode()
    (folder / "checkpoints/index.json").write_bytes(listed)
    config = json.loads((folder / "config.json").read_text())
    config["metta_hub"]["files"]["checkpoints/index.json"] = record(listed)
    del config["metta_hub"]["self"]
    for _ in range(2):  # without its own hash, then with it
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        config["metta_hub"]["self"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "config.json").write_text(text)


def recipe(parts, literal=b"", *, magic=b"METTAHR\x01", size=0, length=None, digest=bytes(32)):
    body = json.dumps(parts).encode() + b"\n" + literal
    return struct.pack("<8sQQ32s", magic, size, length or len(body), digest) + bz2.compress(body)


TENSOR = "components.obs_fourier._attr_embeds.weight"  # of OTHER: 8,192 bytes


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (recipe([], magic=b"METTAHR\x02"), "the recipe is not of version 1"),
        (recipe([], length=1 << 40), "the recipe is not of version 1"),
        (recipe([[TENSOR, 0, 8192]] * 10_000, size=81_920_000), "the recipe asks for more than there is"),
        (recipe([5], b"bytes", size=5), "the recipe does not give the .pt back"),
        (recipe([5], b"bytes", size=6, digest=hashlib.sha256(b"bytes").digest()), "the recipe does not give"),
    ],
)
def test_the_reader_refuses_a_recipe_that_lies(lie, why, published, reader):
    sealed(published, "checkpoints/model_0012.recipe", lie)
    done, written = reader(published, "model_0012")
    assert done.stderr.startswith(f"Refused: {why}")
    assert written == []


def test_the_reader_takes_a_recipe_that_is_sealed(published, reader):
    sealed(
        published,
        "checkpoints/model_0012.recipe",
        recipe([5], b"bytes", size=5, digest=hashlib.sha256(b"bytes").digest()),
    )
    assert reader(published, "model_0012")[1][0].read_bytes() == b"bytes"
