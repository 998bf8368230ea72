"""Pairs: what was read is what is written, and read again; and no document shows in which order a dict was filled."""

import json
from dataclasses import replace

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from metta_hub import card, metadata
from metta_hub.containers import copying
from metta_hub.errors import MetadataError
from metta_hub.formats import pair, repo
from metta_hub.history import mean_of_evals
from metta_hub.index import FileRecord, Index, dumps, entry_of, parse
from properties.oracles import by_torch
from properties.strategies import documents, often, torch_files


def read(folder, name="m"):
    return pair.read(folder / f"{name}.pt")


def written(checkpoint, folder, **options):
    return pair.write(checkpoint, folder, block=metadata.block_for(checkpoint.metadata), **options)


def readable(folder, path, values):
    """A pair of these weights and this metadata, read; an example whose metadata is refused does not count."""
    folder.mkdir(exist_ok=True)
    folder.joinpath("m.pt").write_bytes(path.read_bytes())
    folder.joinpath("m.json").write_text(json.dumps(values))
    try:
        return read(folder)
    except MetadataError:
        assume(False)


def digests(weights):
    return {
        info.name: (info.dtype, info.shape, copying.digest_bytes(copying.read_tensor(weights, info)).sha256)
        for info in weights.tensors
    }


@given(st.data(), documents)
@often(60)
def test_a_pair_is_read_as_it_was_written(folder, data, values):
    """Whatever its weights are, and whatever stands in its JSON; what the JSON can't be is refused."""
    _, path = data.draw(torch_files(folder))
    target = folder / "target"
    checkpoint = readable(folder / "source", path, values)
    first = written(checkpoint, target, force=True)
    assert first.identical
    assert first.pt.read_bytes() == path.read_bytes()
    again = read(target)
    assert digests(again.weights) == digests(checkpoint.weights)
    required = dict.fromkeys(metadata.REQUIRED)
    assert again.metadata.values == required | checkpoint.metadata.values | {"uri": f"file://{target / 'm.pt'}"}
    assert again.metadata.repairs == checkpoint.metadata.repairs
    assert again.metadata.foreign_block == checkpoint.metadata.foreign_block
    assert written(again, target) == first
    json.loads(first.json.read_text(), parse_constant=lambda name: 1 / 0)  # strict: no bare NaN


@given(st.data(), documents)
@often(30)
def test_a_pair_made_from_tensors_is_read_as_it_was_written(folder, data, values):
    """Without the author's own file: the weights, their order and their ties are the same, the bytes are ours."""
    _, path = data.draw(torch_files(folder))
    target = folder / "target"
    checkpoint = readable(folder / "source", path, values)
    rebuilt = replace(checkpoint, origin=replace(checkpoint.origin, pt=None))
    first = written(rebuilt, target, force=True)
    assert not first.identical
    again = read(target)
    assert digests(again.weights) == digests(checkpoint.weights)
    assert list(again.weights.by_name) == list(checkpoint.weights.by_name)
    assert again.weights.tied == checkpoint.weights.tied
    assert written(replace(again, origin=replace(again.origin, pt=None)), target) == first
    assert sorted(by_torch(first.pt)) == sorted(
        [name, dtype, list(shape), sha] for name, (dtype, shape, sha) in digests(again.weights).items()
    )


# --- order ---


def shuffled(value, order):
    """The same JSON, every object filled in another order."""
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    order.shuffle(keys)
    return {key: shuffled(value[key], order) for key in keys}


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6)
evals = st.recursive(
    st.dictionaries(st.text(max_size=6), numbers, max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=6), inner | numbers, max_size=4),
    max_leaves=8,
)


@given(documents, evals, st.randoms(use_true_random=False))
@often(60)
def test_no_document_of_a_repo_shows_the_order_of_a_dict(values, results, order):
    """Index, config.json and card are the same; the pair's JSON keeps the order inside of nested objects."""
    values = {**values, "evals": results, "eval_scores": results}
    try:
        metadata.parse(json.dumps(values).encode(), "m.json")
    except MetadataError:
        assume(False)
    listed = {"model.safetensors": FileRecord(1, "a" * 64), "checkpoints/m.json": FileRecord(2, "b" * 64)}
    made = []
    for variant in (values, shuffled(values, order)):
        known = metadata.parse(json.dumps(variant).encode(), "m.json")
        files = dict(sorted(listed.items(), reverse=len(made) % 2 == 0))
        entry = entry_of("m", known, parameters=3, files=files, published_at="2026-01-02T03:04:05Z")
        index = Index("m", (entry,))
        checkpoint = replace(CHECKPOINT, metadata=known)
        made.append(
            (
                dumps(index),
                repo.config_document(known, name="m", block={}, listed=files),
                card.render(checkpoint, repo_id="org/m", index=index, files=[]),
                mean_of_evals(entry),
            )
        )
        assert parse(made[-1][0]) == index
        assert mean_of_evals(parse(made[-1][0]).entries[0]) == mean_of_evals(entry)
    assert made[0] == made[1]


@given(documents, st.randoms(use_true_random=False))
@often(60)
def test_the_json_of_a_pair_does_not_show_the_order_of_its_keys(values, order):
    keys = list(values)
    order.shuffle(keys)
    try:
        one, other = (metadata.parse(json.dumps(v).encode(), "m") for v in (values, {key: values[key] for key in keys}))
    except MetadataError:
        assume(False)
    assert metadata.dumps(one.values) == metadata.dumps(other.values)


@given(st.permutations(range(5)))
@often(20)
def test_an_index_does_not_show_the_order_of_its_entries(order):
    files = {"checkpoints/{}.safetensors": FileRecord(1, "a" * 64), "checkpoints/{}.json": FileRecord(2, "b" * 64)}
    known = [metadata.from_values({"epoch": epoch} if epoch else {}) for epoch in range(5)]
    entries = [
        entry_of(
            f"m{n}",
            known[n],
            parameters=1,
            files={p.format(f"m{n}"): f for p, f in files.items()},
            published_at="2026-01-02T03:04:05Z",
        )
        for n in range(5)
    ]
    assert dumps(Index(None, tuple(entries[n] for n in order))) == dumps(Index(None, tuple(entries)))


def _checkpoint():
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        torch.save({"x": torch.zeros(3)}, Path(folder) / "m.pt")
        Path(folder, "m.json").write_text("{}")
        return read(Path(folder))


CHECKPOINT = _checkpoint()
