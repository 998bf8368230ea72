"""Files made byte by byte, and the oracles: torch and safetensors, which the product never imports here."""

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from types import MappingProxyType

import safetensors
import torch

#: Dtypes that torch and safetensors both have, by torch's name.
DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
)


def filled(shape, dtype="float32", seed=0):
    """A tensor of any dtype with bytes that repeat nowhere near."""
    kind = getattr(torch, dtype)
    width = torch._utils._element_size(kind)
    count = 1
    for size in shape:
        count *= size
    generator = torch.Generator().manual_seed(seed)
    high = 2 if dtype == "bool" else 256
    values = torch.randint(0, high, (count * width,), dtype=torch.uint8, generator=generator)
    return values.view(kind).reshape(shape) if count else torch.empty(shape, dtype=kind)


def raw(tensor):
    """The values of a tensor in row-major order; torch makes 1 of any other truth when it copies one."""
    tensor = tensor.detach()
    flat = (
        (tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor)
        .reshape(-1)
        .clone(memory_format=torch.contiguous_format)
    )
    flat = flat.as_strided((flat.numel(),), (1,))
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def saved(state, path, **options):
    """A file that torch.save wrote."""
    torch.save(state, path, **options)
    return path


def packed(source, target, level=6):
    """The same zip, packed again by a tool that compresses."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return target


def by_safetensors(state, path, *, metadata=MappingProxyType({"format": "pt"})):
    """A file that safetensors wrote; its own save_file needs numpy, which nobody installs for us."""
    kept = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    specs = {name: _spec(tensor) for name, tensor in kept.items()}
    safetensors.serialize_file(specs, str(path), metadata=metadata and dict(metadata))
    return path


def _spec(tensor):
    dtype, shape = str(tensor.dtype).removeprefix("torch."), list(tensor.shape)
    if not hasattr(safetensors, "TensorSpec"):  # before 0.8
        return {"dtype": dtype, "shape": shape, "data": raw(tensor)}
    size = tensor.numel() * tensor.element_size()
    return safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=tensor.data_ptr(), data_len=size)


def assert_same(state, weights, read):
    """A table of weights says what a state dict holds; `read(weights, info)` gives the bytes of one tensor."""
    assert [info.name for info in weights.tensors] == list(state)
    for info in weights.tensors:
        tensor = state[info.name]
        packed = 2 if tensor.dtype == torch.float4_e2m1fn_x2 else 1
        shape = (*tensor.shape[:-1], tensor.shape[-1] * packed) if packed > 1 else tuple(tensor.shape)
        assert info.shape == shape
        assert bytes(read(weights, info)) == raw(tensor)


# --- zip files ---


@dataclass
class Entry:
    """One member, and every lie that can be told about it; what is None is told truly."""

    name: str
    data: bytes = b""
    crc: int | None = None
    size: int | None = None
    flags: int = 0x0808
    method: int = 0
    local_name: str | None = None
    local_flags: int | None = None
    local_sizes: tuple[int, int, int] | None = None
    extra: bytes | None = None
    central_extra: bytes = b""
    descriptor: bytes | None = None
    after: bytes = b""
    offset: int | None = None
    hidden: bool = False
    comment: bytes = b""
    written: int = field(default=0)


def padding(length):
    return struct.pack("<2sH", b"FB", length) + b"Z" * length


def local_part(entry, offset):
    """Local header, bytes and descriptor."""
    name = (entry.local_name or entry.name).encode()
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    size = len(entry.data) if entry.size is None else entry.size
    flags = entry.flags if entry.local_flags is None else entry.local_flags
    extra = padding(-(offset + 34 + len(name)) % 64) if entry.extra is None else entry.extra
    streamed = flags & 8
    sizes = entry.local_sizes or ((0, 0, 0) if streamed else (crc, size, size))
    header = struct.pack("<4s5H3L2H", b"PK\3\4", 0, flags, entry.method, 0, 0, *sizes, len(name), len(extra))
    descriptor = entry.descriptor
    if descriptor is None:
        descriptor = struct.pack("<4s3L", b"PK\7\x08", crc, size, size) if streamed else b""
    return header + name + extra + entry.data + descriptor + entry.after


def central_part(entry):
    name = entry.name.encode()
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    size = len(entry.data) if entry.size is None else entry.size
    offset = entry.written if entry.offset is None else entry.offset
    lengths = len(name), len(entry.central_extra), len(entry.comment)
    fixed = (b"PK\1\2", 0, 0, entry.flags, entry.method, 0, 0, crc, size, size, *lengths, 0, 0, 0, offset)
    return struct.pack("<4s6H3L5H2L", *fixed) + name + entry.central_extra + entry.comment


def build_zip(entries, *, before=b"", after=b"", comment=b"", count=None, directory=None):
    """A zip of stored members, as torch lays it out but for what the entries say."""
    out = bytearray(before)
    for entry in entries:
        entry.written = len(out)
        out += local_part(entry, len(out))
    start = len(out)
    central = b"".join(central_part(entry) for entry in entries if not entry.hidden)
    shown = sum(not entry.hidden for entry in entries) if count is None else count
    size, place = directory or (len(central), start)
    out += central
    out += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, shown, shown, size, place, len(comment)) + comment
    return bytes(out + after)


# --- pickles ---


class Stored:
    """A storage: pickled as the persistent id that torch gives it."""

    def __init__(self, count, key="0", class_=torch.FloatStorage, device="cpu"):
        self.pid = ("storage", class_, key, device, count)


class Tensor:
    """A tensor as torch pickles one, with any arguments."""

    def __init__(self, storage, offset=0, shape=(2, 2), stride=(2, 1), *rest, function=None, grad=False, hooks=None):
        hooks = OrderedDict() if hooks is None else hooks
        self.reduced = (
            function or torch._utils._rebuild_tensor_v2,
            (storage, offset, shape, stride, grad, hooks, *rest),
        )

    def __reduce__(self):
        return self.reduced


class Call:
    """Anything that a pickle may ask to be called."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


def pickled(value, protocol=2):
    out = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.pid if isinstance(value, Stored) else None

    Pickler(out, protocol).dump(value)
    return out.getvalue()


MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def torch_entries(data_pkl, storages, root="archive", **members):
    """The members of a PyTorch zip."""
    entries = [Entry(f"{root}/data.pkl", data_pkl)]
    entries += [Entry(f"{root}/{name}", content) for name, content in members.items()]
    entries += [
        Entry(f"{root}/data/{key}", content, flags=0x0808 if content else 0x0800) for key, content in storages.items()
    ]
    entries.append(Entry(f"{root}/version", b"3\n"))
    return entries


def torch_file(path, value, storages, protocol=2, **members):
    """A PyTorch zip that holds any pickle over any storages."""
    path.write_bytes(build_zip(torch_entries(pickled(value, protocol), storages, **members)))
    return path


def legacy_stream(value, storages, *, keys=None, counts=None, magic=MAGIC, protocol=1001, machine=MACHINE, after=b""):
    """A stream of before 1.6 of any object over any storages; of four-byte elements when no `counts` are given."""
    out = io.BytesIO()
    for part in (magic, protocol, machine):
        out.write(pickled(part))
    out.write(value if isinstance(value, bytes) else pickled(value))
    out.write(pickled(list(storages) if keys is None else keys))
    for key, content in storages.items():
        out.write(struct.pack("<q", len(content) // 4 if counts is None else counts[key]) + content)
    return out.getvalue() + after
