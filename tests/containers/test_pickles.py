"""The inert unpickler: true to Python's own for plain values, a record of everything else, and never in danger."""

import collections
import contextlib
import datetime as dt
import enum
import functools
import io
import os
import pathlib
import pickle
import pickletools
import struct
import sys
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.builders import Call
from metta_hub.containers import pickles
from metta_hub.containers.pickles import Boxed, Global, Persistent, Record
from metta_hub.errors import FormatError
from properties.mutations import mutations

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.integers(min_value=-(2**63), max_value=2**200)
)
KEYS = st.none() | st.booleans() | st.integers(-(2**59), 2**59) | st.floats(allow_nan=False) | st.text()


def values(scalars, keys, *, sets):
    def more(inner):
        plain = st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner)
        return plain | st.sets(keys) | st.frozensets(keys) if sets else plain

    return st.recursive(scalars, more, max_leaves=20)


def types(value):
    """The types in a value, which `==` does not compare."""
    if isinstance(value, dict):
        return dict, [(type(key), types(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types(inner) for inner in value]
    return type(value)


def parse(data):
    return pickles.parse(data, "a pickle")


@given(value=values(SCALARS, KEYS, sets=False), protocol=st.integers(0, 5))
def test_plain_values_come_out_as_python_reads_them(value, protocol):
    data = pickle.dumps(value, protocol)
    found = parse(data)
    assert found.root == value
    assert types(found.root) == types(value)
    assert (found.globals, found.size) == ((), len(data))


@given(value=values(SCALARS | st.binary() | st.binary().map(bytearray), KEYS | st.binary(), sets=True))
def test_so_do_bytes_and_sets_from_protocol_4_on(value):
    for protocol in (4, 5):
        found = parse(pickle.dumps(value, protocol))
        if not found.globals:  # protocol 4 spells a bytearray as a call
            assert found.root == value
            assert types(found.root) == types(value)


def test_shared_and_cyclic_values_keep_their_identity():
    shared = [1]
    value = {"a": shared, "b": shared}
    value["me"] = value
    found = parse(pickle.dumps(value)).root
    assert found["a"] is found["b"]
    assert found["me"] is found


class Plain:
    def __init__(self):
        self.kept = [1, "two"]


class Slots:
    __slots__ = ("one",)

    def __init__(self):
        self.one = 1


class Mapped(dict):
    pass


class Listed(list):
    pass


class Keyword:
    def __new__(cls, *, name):
        made = super().__new__(cls)
        made.name = name
        return made

    def __getnewargs_ex__(self):
        return (), {"name": self.name}


class Colour(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - old pickles hold these


@pytest.mark.parametrize("protocol", range(6))
def test_objects_are_recorded_and_not_made(protocol):
    found = parse(pickle.dumps(Plain(), protocol)).root
    assert type(found) is Record
    assert {"kept": [1, "two"]} in found.states
    assert any("Plain" in str(name) for name in parse(pickle.dumps(Plain(), protocol)).globals)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_records_keep_what_was_asked(protocol):
    def of(value):
        return parse(pickle.dumps(value, protocol)).root

    slots = of(Slots())
    assert slots.made
    assert slots.states == [(None, {"one": 1})]
    assert of(Mapped(a=1)).pairs == [("a", 1)]
    assert of(Listed([1, 2])).items == [1, 2]
    assert of(Point(3, 4)).args == (3, 4)
    assert of(Colour.RED).args == (1,)
    assert of(collections.OrderedDict(a=1)).pairs == [("a", 1)]
    assert of(collections.defaultdict(list, a=[1])).pairs == [("a", [1])]
    assert of(collections.deque([1, 2])).items == [1, 2]
    assert of(functools.partial(max, 1)).states[0][1] == (1,)
    assert type(of(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))) is Record
    assert type(of(pathlib.PurePosixPath("/a/b"))) is Record
    assert of(max) == Global("__builtin__" if protocol == 2 else "builtins", "max")
    assert of(b"\xff") == b"\xff" or protocol == 2


def test_keyword_arguments_are_kept():
    found = parse(pickle.dumps(Keyword(name="x"), 4)).root
    assert found.made
    assert found.kwargs == {"name": "x"}


def test_old_class_opcodes():
    inst = parse(b"(I1\nios\nsystem\n.").root
    assert (inst.callable, inst.args) == (Global("os", "system"), (1,))
    obj = parse(b"(cos\nsystem\nI1\no.").root
    assert (obj.callable, obj.args) == (Global("os", "system"), (1,))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"K\x01K\x020.", 1),
        (b"K\x01(K\x02K\x031.", 1),
        (b"K\x01(0.", 1),
        (b"K\x012\x86.", (1, 1)),
        (b"S'text'\n.", "text"),
        (b'S"it\\x27s"\n.', "it's"),
        (b"S'\\xff'\n.", b"\xff"),
        (b"U\x02\xc3\xa9.", "é"),
        (b"U\x01\xff.", b"\xff"),
        (b"T\x01\0\0\0a.", "a"),
        (b"Vcaf\\u00e9\n.", "café"),
        (b"I01\n.", True),
        (b"L-5L\n.", -5),
        (b"(lp0\nI1\nag0\na.", None),
        (b"\x8e\x01\0\0\0\0\0\0\0a.", b"a"),
        (b"\x8d\x01\0\0\0\0\0\0\0a.", "a"),
        (b"\x8b\x02\0\0\0\0\x01.", 256),
        (b"](K\x01K\x02e.", [1, 2]),
        (b"(K\x01K\x02d.", {1: 2}),
        (b"}K\x01K\x02s.", {1: 2}),
        (b"\x80\x04\x95\x02\0\0\0\0\0\0\0N.", None),
    ],
)
def test_rare_opcodes(data, expected):
    found = parse(data).root
    if data.startswith(b"(l"):
        assert found[0] == 1
        assert found[1] is found
    else:
        assert found == expected
        assert type(found) is type(expected)


def test_what_follows_the_end_is_left_alone():
    found = pickles.parse(b"before" + b"K\x07." + b"after", "a pickle", start=6)
    assert (found.root, found.size) == (7, 3)


def test_persistent_ids_are_collected():
    found = parse(b"(K\x01K\x02tQPname\n\x86.")
    assert [type(value) for value in found.root] == [Persistent, Persistent]
    assert [reference.pid for reference in found.persistent] == [(1, 2), "name"]


def test_nothing_runs(tmp_path):
    marker = tmp_path / "marker"
    for value in (
        Call(os.system, f"touch {marker}"),
        Call(exec, f"open({str(marker)!r}, 'w')"),
        Call(eval, f"open({str(marker)!r}, 'w')"),
        Call(__import__, "this"),
        {"deep": [Call(os.system, f"touch {marker}")]},
    ):
        for protocol in range(6):
            found = parse(pickle.dumps(value, protocol))
            assert found.globals
    before = "this" in sys.modules
    assert not marker.exists()
    assert ("this" in sys.modules) is before


def test_names_are_listed_sorted_and_once():
    found = parse(pickle.dumps([os.system, os.getcwd, os.system], 4))
    assert found.names == ("posix.getcwd", "posix.system")


@pytest.mark.parametrize("key", [(1, 2), 1 << 61, -(1 << 61), (), frozenset({1})])
def test_keys_that_a_stranger_could_make_collide_are_boxed(key):
    (found,) = parse(pickle.dumps({key: "value"}, 4)).root
    assert type(found) is Boxed
    inside = next(iter(found.value)) if isinstance(key, frozenset) else found.value
    assert inside == (1 if isinstance(key, frozenset) else key)
    assert type(next(iter(parse(pickle.dumps({key}, 4)).root))) is Boxed


def test_a_record_as_a_key_is_boxed():
    (found,) = parse(pickle.dumps({Point(1, 2): "value"}, 4)).root
    assert type(found.value) is Record


def test_colliding_keys_take_no_time():
    count, modulus = 60_000, (1 << 61) - 1  # Python itself takes half a minute for this dict
    keys = b"".join(b"\x8a\x0a" + (modulus * number).to_bytes(10, "little") + b"N" for number in range(1, count + 1))
    start = time.perf_counter()
    assert len(parse(b"\x80\x02}(" + keys + b"u.").root) == count
    assert time.perf_counter() - start < 5


def test_a_key_that_is_set_twice_is_reported():
    assert parse(b"}(X\x01\0\0\0aK\x01X\x01\0\0\0aK\x02u.").repeated == "a"
    assert parse(pickle.dumps({"a": 1, "b": 2})).repeated is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends early"),
        (b"K", "ends early"),
        (b"X\xff\xff\xff\xffabc.", "claims 4,294,967,295 bytes, 4 are left"),
        (b"\x8d" + b"\xff" * 8 + b".", "claims 18,446,744,073,709,551,615 bytes"),
        (b"\x96" + b"\0\0\0\0\0\1\0\0" + b".", "claims 1,099,511,627,776 bytes"),
        (b"T\xff\xff\xff\xff.", "claims -1 bytes"),
        (b"\x8b\xff\xff\xff\x7f.", "claims 2,147,483,647 bytes"),
        (b"\x8b\x00\x08\x00\x00" + b"\x01" * 2048 + b".", "the number takes 2,048 bytes"),
        (b"L" + b"9" * 5000 + b"\n.", "5,000 digits"),
        (b"I" + b"1" * 70_000 + b"\n.", "its line does not end"),
        (b"Iabc\n.", "malformed"),
        (b"Fabc\n.", "malformed"),
        (b"Sabc\n.", "not in quotes"),
        (b"\x95" + b"\xff" * 8 + b".", "its frame claims"),
        (b"\x80\x06N.", "protocol 6 is not known"),
        (b"h\x00.", "nothing was stored under 0"),
        (b"j\xff\xff\xff\xff.", "nothing was stored under 4294967295"),
        (b"NN.", "stops with 2 values"),
        (b"(.", "open marks"),
        (b".", "stops with 0 values"),
        (b"0.", "takes more values than it made"),
        (b"t.", "takes more values than it made"),
        (b"R.", "takes more values than it made"),
        (b"Nq", "ends early"),
        (b"Na.", "takes more values"),
        (b"NNa.", "appends to a NoneType"),
        (b"(Ne.", "takes more values"),
        (b"N(Ne.", "appends to a NoneType"),
        (b"](N\x90.", "adds to a list"),
        (b"}(Nu.", "a key has no value"),
        (b"](NNu.", "sets items of a list"),
        (b"}Nb.", "sets the state of a dict"),
        (b"cos\nsystem\nNb.", "sets the state of a Global"),
        (b"NN\x93.", "the name is not a text"),
        (b"\x82\x01.", "extension codes"),
        (b"\x83\x01\x00.", "extension codes"),
        (b"\x84\x01\x00\x00\x00.", "extension codes"),
        (b"\x97.", "outside of the file"),
        (b"N\x98.", "outside of the file"),
        (b"\xff.", "opcode 0xff: no pickle protocol"),
        (b"c\xff\n\n.", "not UTF-8"),
        (b"X\x01\0\0\0\xff.", "not UTF-8"),
        (b"(" * 20_000 + b".", "more than 10,000 levels"),
        (b"\x8f0" * 200_000 + b"N.", "more than 100,000 sets"),
    ],
)
def test_damage_is_named(data, says):
    with pytest.raises(FormatError, match="its pickle is damaged at byte") as caught:
        parse(data)
    assert says in str(caught.value)


def test_the_offset_and_the_opcode_are_named():
    with pytest.raises(FormatError, match=r"byte 2, opcode SHORT_BINUNICODE: it claims 9 bytes, 2 are left"):
        parse(b"N0\x8c\x09a.")


def test_too_much_is_refused(monkeypatch):
    with pytest.raises(FormatError, match="is the limit"):
        parse(b"N" * (pickles.MAX_BYTES + 1))
    monkeypatch.setattr(pickles, "MAX_STEPS", 1000)
    with pytest.raises(FormatError, match="more than 1,000 opcodes"):
        parse(b"N0" * 501 + b"N.")


@pytest.mark.parametrize(
    "data",
    [
        b"Nr" + struct.pack("<I", 0xFFFFFFFF) + b".",  # the C unpickler allocates 64 GiB for this
        b"\x8e" + struct.pack("<Q", 1 << 40) + b".",
        b"]" + b"\x85" * 200_000 + b".",
        b"\x8a\xff" + b"\xff" * 255 + b".",
    ],
)
def test_bombs_stay_small(data):
    tracemalloc.start()
    try:
        parse(data)
    except FormatError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 150 * len(data) + (1 << 20)


def test_deep_values_as_keys_are_not_hashed():
    assert type(parse(b"})" + b"\x85" * 300_000 + b"Ns.").root) is dict


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(data):
    with contextlib.suppress(FormatError):
        parse(data)


class Closed(pickle._Unpickler):
    """Python's own, in Python: its memo is no array as long as a stranger says, and it looks up no name."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError("no names")


@given(st.data())
@settings(max_examples=300)
def test_mutated_pickles_are_refused_or_read_as_python_reads_them(data):
    value = {"a": [1, (2, 3.5), "x" * 300, None], "b": {"c": {4, 5}, "d": [True, 10**30, b"bytes"]}, "e": [[], {}, ()]}
    value["shared"] = value["a"]
    mutated = data.draw(mutations(pickle.dumps(value, data.draw(st.integers(0, 5)))))
    try:
        found = parse(mutated)
    except FormatError:
        return
    if found.globals or found.persistent:
        return
    try:
        expected = Closed(io.BytesIO(mutated)).load()
    except Exception:
        return
    assert "Boxed" in repr(found.root) or repr(found.root) == repr(expected)


@pytest.mark.parametrize("protocol", range(6))
def test_truncated_anywhere(protocol):
    data = pickle.dumps({"a": [1, 2.5, "text", b"bytes"], "b": Plain()}, protocol)
    for end in range(len(data)):
        with pytest.raises(FormatError):
            parse(data[:end])


def test_every_opcode_is_known():
    known = {ord(opcode.code) for opcode in pickletools.opcodes}
    looped = set(b"rqhK.")
    assert known == {code for code in range(256) if pickles._HANDLERS[code] is not pickles._unknown} | looped
