"""State dicts, files of them and damage to files: what the property tests are made of.

How many examples there are is the profile's business: `often` scales a test's own number by it.
"""

import io
import zipfile
from collections import OrderedDict
from contextlib import nullcontext

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch.utils.serialization import config

from containers.builders import DTYPES, filled, packed
from metta_hub.containers import dtypes

_PACKED = "float4_e2m1fn_x2"
#: Dtypes with a storage class of their own: of others torch writes a stream of before 1.6, but does not read it.
_CLASSIC = tuple(dtypes.BY_STORAGE[storage].torch for storage in dtypes.BY_STORAGE)


def often(examples):
    """Settings for so many examples in the usual profile, and more in the profile `soak`."""
    scaled = max(1, examples * settings.default.max_examples // 100)
    # Files are made while an example is drawn: on a busy machine that takes its time.
    return settings(max_examples=scaled, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- names and tensors ---

_odd_names = st.sampled_from(
    [
        "",
        ".",
        "..",
        "a.b.c.weight",
        "a" * 300,
        "../../etc/passwd",
        "data/0",
        "\x00",
        "\n",
        "'",
        '"',
        "\\",
        "é漢😀",
        "a b",
    ]
)
names = _odd_names | st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda name: name != "__metadata__")
shapes = st.lists(st.integers(0, 5) | st.just(1), max_size=5).map(tuple)


@st.composite
def views(draw, base):
    """A view of a tensor: any strides that torch can make."""
    view = base
    for _ in range(draw(st.integers(1, 3))):
        dims = view.dim()
        how = draw(st.sampled_from(["permute", "slice", "select", "expand", "strided"]))
        if how == "permute":
            view = view.permute(draw(st.permutations(range(dims))))
        elif how == "slice" and dims:
            dim = draw(st.integers(0, dims - 1))
            start = draw(st.integers(0, view.shape[dim]))
            view = view.transpose(0, dim)[start :: draw(st.integers(1, 3))]
        elif how == "select" and dims and view.shape[0]:
            view = view[draw(st.integers(0, view.shape[0] - 1))]
        elif how == "expand" and dims < 5:
            view = view.expand(draw(st.integers(0, 3)), *view.shape)
        elif how == "strided":
            room = base.untyped_storage().nbytes() // base.element_size()
            if room:
                size, step = draw(st.integers(0, 3)), draw(st.integers(0, 3))
                offset = draw(st.integers(0, room - 1))
                if offset + max(0, size - 1) * step < room:
                    view = base.as_strided((size,), (step,), offset)
    return view


@st.composite
def state_dicts(draw, among=DTYPES):
    """Names and tensors as `Module.state_dict()` and people make them: ties, views, parameters, every dtype."""
    state = OrderedDict()
    bases = []
    for index, name in enumerate(draw(st.lists(names, unique=True, max_size=6))):
        how = draw(st.sampled_from(["new", "new", "parameter"] + ["tied", "same", "view", "view"] * bool(bases)))
        if how in {"new", "parameter"}:
            dtype, shape = draw(st.sampled_from(among)), draw(shapes)
            if dtype == _PACKED:  # neither scalars nor strides: two values lie in one byte
                state[name] = filled((*shape, 2), dtype, index)
                continue
            base = filled(shape, dtype, index)
        else:
            base = draw(st.sampled_from(bases))
        if how == "parameter" and base.is_floating_point():
            base = torch.nn.Parameter(base, requires_grad=draw(st.booleans()))
        state[name] = base
        if how == "tied":
            state[name] = base.detach()
        elif how == "view":
            state[name] = draw(views(base.detach()))
        else:
            bases.append(base)
    if draw(st.booleans()):
        state._metadata = OrderedDict({"": {"version": 1}})
    return state if draw(st.booleans()) else dict(state)


# --- files ---

_stems = st.sampled_from(["model_0001", "archive", "a b", "é漢", "x" * 200, "model.v2"])


@st.composite
def zips(draw, folder):
    """A `.pt` of today's kind, saved with whatever options torch has: state dict and path."""
    state = draw(state_dicts())
    path = folder / f"{draw(_stems)}.pt"
    options = {"pickle_protocol": draw(st.integers(2, 5)), "_disable_byteorder_record": draw(st.booleans())}
    checksums = draw(st.booleans())
    skipped = torch.serialization.skip_data() if draw(st.integers(0, 9)) == 0 else nullcontext()
    torch.serialization.set_crc32_options(checksums)
    try:
        with config.patch("save.storage_alignment", draw(st.sampled_from([1, 8, 64, 512, 4096]))), skipped:
            if draw(st.booleans()) or not isinstance(skipped, nullcontext):
                torch.save(state, path, **options)
            else:
                buffer = io.BytesIO()
                torch.save(state, buffer, **options)
                path.write_bytes(buffer.getvalue())
    finally:
        torch.serialization.set_crc32_options(True)
    return state, path


@st.composite
def legacies(draw, folder):
    """A stream of before 1.6."""
    state, path = draw(state_dicts(_CLASSIC)), folder / "legacy.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False, pickle_protocol=draw(st.integers(2, 5)))
    return state, path


@st.composite
def repacked(draw, folder):
    """A `.pt` that another tool has packed again, compressed or not."""
    state, path = draw(state_dicts()), folder / "before.pt"
    torch.save(state, path)
    target = folder / "repacked.pt"
    if draw(st.booleans()):
        return state, packed(path, target, draw(st.integers(1, 9)))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return state, target


def torch_files(folder):
    """A file of any of these kinds."""
    return zips(folder) | legacies(folder) | repacked(folder)


# --- JSON ---

#: Keys that mean something, and others.
_keys = st.sampled_from(
    ["epoch", "agent_step", "generation", "train_time", "score", "evals", "model_info", "run_name", "uri", "metta_hub"]
) | st.text(st.characters(codec="utf-8"), max_size=8)
_numbers = st.integers() | st.floats() | st.sampled_from([1e308, -0.0, 2**53 + 1, 10**300, 1e-320])
_texts = st.text(st.characters(codec="utf-8"), max_size=10) | st.sampled_from(
    ["1572864", "tensor(0.2500)", "nan", "-inf", "MultiDiscrete([5 4])", "[1 2]", "np.int64(3)", "1e999", "0x10"]
)
json_values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)
#: The JSON of a pair, with what Metta's own writer leaves in it: bare NaN, numbers that became texts.
documents = st.dictionaries(_keys, json_values, max_size=8)
