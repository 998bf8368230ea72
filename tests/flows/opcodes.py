"""Pickles written opcode by opcode, and files of them in every shape that a record can have.

`pickle` writes only what its objects are; here a pickle says whatever a stranger wants it to say. Every function gives
the opcodes that leave one value on the stack. Source: `pickletools` of CPython.
"""

import io
import struct
import zipfile

from containers.builders import Entry, build_zip, torch_entries

NONE, TRUE, FALSE, EMPTY, STOP = b"N", b"\x88", b"\x89", b")", b"."


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else b"\x8b" + struct.pack("<i", len(raw)) + raw


def data(value):
    return b"B" + struct.pack("<I", len(value)) + value


def value(item):
    """A plain value; bytes are opcodes already."""
    return _MAKERS[type(item)](item)


def mapping(pairs):
    """A dict of plain values and opcodes; a list of pairs may repeat its keys."""
    pairs = pairs.items() if isinstance(pairs, dict) else pairs
    return b"}" + filled(pairs)


def filled(pairs):
    """Set items of what is on the stack."""
    return b"(" + b"".join(value(key) + value(item) for key, item in pairs) + b"u"


def listing(items):
    return b"](" + b"".join(map(value, items)) + b"e"


def named(name):
    module, _, name = name.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def call(function, *args):
    """REDUCE."""
    return (named(function) if isinstance(function, str) else function) + value(args) + b"R"


def made(class_, state=None, *, args=()):
    """NEWOBJ, and BUILD with a state."""
    new = (named(class_) if isinstance(class_, str) else class_) + value(args) + b"\x81"
    return new if state is None else new + value(state) + b"b"


def kept(key, opcodes):
    """What is left on the stack is kept in the memo as well."""
    return opcodes + b"r" + struct.pack("<I", key)


def again(key):
    """What is in the memo."""
    return b"j" + struct.pack("<I", key)


_MAKERS = {
    bytes: lambda item: item,
    type(None): lambda _: NONE,
    bool: lambda item: TRUE if item else FALSE,
    str: text,
    int: number,
    float: number,
    dict: mapping,
    list: listing,
    tuple: lambda item: b"(" + b"".join(map(value, item)) + b"t",
}


# --- what torch and Metta pickle ---


def storage(key="0", count=4, class_="torch.FloatStorage"):
    return value(("storage", named(class_), key, "cpu", count)) + b"Q"


def tensor(key="0", count=4, shape=(2, 2), stride=(2, 1), offset=0, class_="torch.FloatStorage"):
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", storage(key, count, class_), offset, shape, stride, FALSE, hooks)


def module(class_="torch.nn.modules.linear.Linear", *, parameters=(), buffers=(), children=(), **attributes):
    """A torch module; what is not given is empty."""
    state = {
        "training": True,
        "_parameters": value(dict(parameters)) if not isinstance(parameters, bytes) else parameters,
        "_buffers": value(dict(buffers)) if not isinstance(buffers, bytes) else buffers,
        "_non_persistent_buffers_set": call("__builtin__.set", []),
        "_modules": value(dict(children)) if not isinstance(children, bytes) else children,
    }
    return made(class_, state | attributes)


def agent(components=None, **attributes):
    """One of Metta's agents: a core, and whatever else it is given."""
    parts = {"_core_": module(parameters={"weight": tensor()})} if components is None else components
    held = module("torch.nn.modules.container.ModuleDict", children=parts)
    return module("metta.agent.metta_agent.MettaAgent", children={"components": held}, **attributes)


def record(metadata=None, policy=None, **attributes):
    """A PolicyRecord of July 2025."""
    known = {"epoch": 1, "agent_step": 2, "generation": 0, "train_time": 1.5} if metadata is None else metadata
    if not isinstance(known, bytes):
        known = made("metta.agent.policy_metadata.PolicyMetadata") + filled(known.items())
    state = {"_policy_store": None, "run_name": "model_0001.pt", "uri": "file:///x/model_0001.pt"} | attributes
    return made(
        "metta.agent.policy_record.PolicyRecord",
        state | {"_metadata": known, "_cached_policy": agent() if policy is None else policy},
    )


# --- files ---

VALUES = struct.pack("<4f", 1, 2, 3, 4)


def pt(root, storages=None, *, proto=2, last=False, **members):
    """A PyTorch zip over one pickle, which stands first in it or last."""
    content = b"\x80" + bytes([proto]) + root + STOP
    entries = torch_entries(content, {"0": VALUES} if storages is None else storages, **members)
    return build_zip([*entries[1:], entries[0]] if last else entries)


def compressed(root, storages=None):
    """The same, packed again by a tool that compresses."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + root + STOP)
        for key, content in ({"0": VALUES} if storages is None else storages).items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", b"3\n")
    return out.getvalue()


def package(pickles, storages=None, sources=None):
    """An archive of torch.package; storages have numbers there."""
    entries = [Entry(f"model_0001/{name}", b"\x80\x03" + root + STOP) for name, root in pickles.items()]
    stored = {"0": VALUES} if storages is None else storages
    entries += [Entry(f"model_0001/.data/{key}.storage", content) for key, content in stored.items()]
    entries += [Entry(f"model_0001/{name}", source) for name, source in (sources or {}).items()]
    entries += [Entry("model_0001/.data/extern_modules", b"torch\n"), Entry("model_0001/.data/version", b"6\n")]
    return build_zip(entries)
