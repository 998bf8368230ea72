"""Numbers of numpy from its pickles, written by hand: no numpy is needed to read them, and none is here."""

import struct
from itertools import product

import pytest

from flows.opcodes import EMPTY, FALSE, NONE, STOP, TRUE, call, data, listing, made, named, text, value
from metta_hub.containers import pickles
from metta_hub.pickled import arrays

#: numpy's codes of types, with `struct`'s, and values that show sign, width and order of bytes.
NUMBERS = {
    "b1": ("?", [True, False, True, True, False, True]),
    "i1": ("b", [-128, -1, 0, 1, 5, 127]),
    "u1": ("B", [0, 1, 2, 127, 128, 255]),
    "i2": ("h", [-(1 << 15), -2, 0, 1, 258, (1 << 15) - 1]),
    "u2": ("H", [0, 1, 258, 4, 5, (1 << 16) - 1]),
    "i4": ("i", [-(1 << 31), -2, 0, 1, 16909060, (1 << 31) - 1]),
    "u4": ("I", [0, 1, 16909060, 4, 5, (1 << 32) - 1]),
    "i8": ("q", [-(1 << 63), -2, 0, 1, 72623859790382856, (1 << 63) - 1]),
    "u8": ("Q", [0, 1, 72623859790382856, 4, 5, (1 << 63) + 1]),
    "f2": ("e", [-2.0, -0.5, 0.0, 0.25, 1.5, 65504.0]),
    "f4": ("f", [-2.0, -0.5, 0.0, 0.25, 1.5, 16777215.0]),
    "f8": ("d", [-2.0, 0.1, 0.0, 0.25, 1e-300, 1.7976931348623157e308]),
}
EACH = list(product(NUMBERS, ("<", ">")))


def dtype(code, order, version=3):
    return made("numpy.dtype", (version, order, NONE, NONE, NONE, -1, -1, 0), args=(code, FALSE, TRUE))


def array(shape, kind, raw, *, fortran=False, module="numpy._core.multiarray"):
    """As `ndarray.__reduce__` gives it: an empty array, and its state."""
    begun = call(f"{module}._reconstruct", named("numpy.ndarray"), value((0,)), data(b"b"))
    return begun + value((1, value(tuple(shape)), kind, TRUE if fortran else FALSE, raw)) + b"b"


def scalar(kind, raw, module="numpy._core.multiarray"):
    return call(f"{module}.scalar", kind, raw)


def read(opcodes):
    return arrays.numpy_value(pickles.parse(b"\x80\x02" + opcodes + STOP, "test").root)


@pytest.mark.parametrize(("code", "order"), EACH)
def test_a_scalar(code, order):
    kind, values = NUMBERS[code]
    for number in values:
        found = read(scalar(dtype(code, order), data(struct.pack(order + kind, number))))
        assert found == number
        assert type(found) is type(number)


@pytest.mark.parametrize(("code", "order"), EACH)
def test_an_array_row_by_row(code, order):
    kind, values = NUMBERS[code]
    raw = struct.pack(f"{order}6{kind}", *values)
    assert read(array((6,), dtype(code, order), data(raw))) == values
    assert read(array((2, 3), dtype(code, order), data(raw))) == [values[:3], values[3:]]


@pytest.mark.parametrize(("code", "order"), EACH)
def test_an_array_column_by_column(code, order):
    """Fortran's order: the first place runs fastest."""
    kind, values = NUMBERS[code]
    raw = struct.pack(f"{order}6{kind}", *values)
    found = read(array((2, 3), dtype(code, order), data(raw), fortran=True))
    assert found == [[values[0], values[2], values[4]], [values[1], values[3], values[5]]]


def test_three_dimensions_in_both_orders():
    shape = (2, 3, 4)
    expected = [[[100 * i + 10 * j + k for k in range(4)] for j in range(3)] for i in range(2)]
    rows = [expected[i][j][k] for i, j, k in product(*map(range, shape))]
    columns = [expected[i][j][k] for k, j, i in product(*map(range, reversed(shape)))]
    for numbers, fortran in ((rows, False), (columns, True)):
        raw = data(struct.pack("<24i", *numbers))
        assert read(array(shape, dtype("i4", "<"), raw, fortran=fortran)) == expected


def test_an_array_without_dimensions_is_a_number():
    assert read(array((), dtype("f8", "<"), data(struct.pack("<d", 0.1)))) == 0.1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((0,), []), ((0, 5), []), ((2, 0), [[], []]), ((2, 3, 0), [[[], [], []], [[], [], []]])],
)
def test_an_array_without_elements(shape, expected):
    for fortran in (False, True):
        assert read(array(shape, dtype("f8", "<"), data(b""), fortran=fortran)) == expected


@pytest.mark.parametrize("raw", [call("_codecs.encode", "", "latin1"), call("__builtin__.bytes")])
def test_no_bytes_as_older_protocols_spell_them(raw):
    assert read(array((0,), dtype("f8", "<"), raw)) == []


def test_bytes_as_older_protocols_spell_them():
    """A call that encodes a text of 256 letters."""
    raw = call("_codecs.encode", text(bytes(range(256)).decode("latin-1").encode()), "latin1")
    assert read(array((256,), dtype("u1", "|"), raw)) == list(range(256))


@pytest.mark.parametrize(("order", "encoding"), [("<", "utf-32-le"), (">", "utf-32-be")])
def test_texts(order, encoding):
    words = ["", "a", "é漢😀"]
    raw = b"".join(word.ljust(3, "\0").encode(encoding) for word in words)
    assert read(array((3,), dtype("U3", order), data(raw))) == words
    assert read(scalar(dtype("U3", order), data(raw[-12:]))) == words[-1]


def test_texts_of_bytes():
    assert read(array((2,), dtype("S4", "|"), data(b"ab\0\0abcd"))) == ["ab", "abcd"]
    assert read(array((3,), dtype("S0", "|"), data(b""))) == ["", "", ""]


def test_numpy_before_2_names_its_modules_otherwise():
    raw = data(struct.pack("<q", 7))
    assert read(scalar(dtype("i8", "<"), raw, "numpy.core.multiarray")) == 7
    assert read(array((1,), dtype("i8", "<"), raw, module="numpy.core.multiarray")) == [7]
    root = pickles.parse(b"\x80\x02" + scalar(dtype("i8", "<"), raw, "numpy.core.multiarray") + STOP, "test").root
    assert arrays.is_numpy(root)
    assert not arrays.is_numpy(7)


EIGHT = data(bytes(8))
_FIELDS = value(("a", "b"))


@pytest.mark.parametrize(
    ("opcodes", "says"),
    [
        (scalar(dtype("O8", "|"), data(b"x")), "numpy's O8"),
        (array((1,), dtype("O8", "|"), listing([1])), "numpy's O8"),
        (array((1,), dtype("V16", "|"), data(bytes(16))), "numpy's V16"),
        (
            array((1,), made("numpy.dtype", (3, "|", NONE, _FIELDS, NONE, 8, 1, 16), args=("V8", FALSE, TRUE)), EIGHT),
            "V8",
        ),
        (scalar(dtype("M8", "<"), EIGHT), "numpy's M8"),
        (scalar(dtype("c8", "<"), EIGHT), "numpy's c8"),
        (scalar(dtype("f16", "<"), data(bytes(16))), "numpy's f16"),
        (scalar(dtype("U²", "<"), EIGHT), "numpy's U²"),
        (scalar(dtype("x" * 1_000_000, "<"), EIGHT), "numpy's xxxxxxxxxxxxxxxxxxxx"),
        (array((1,), dtype("f8", "<"), listing([1.0])), "array of objects"),
        (array((1,), dtype("f8", "<"), data(bytes(7))), "do not fit its shape"),
        (array((1,), dtype("f8", "<"), data(bytes(9))), "do not fit its shape"),
        (array((1 << 40,), dtype("f8", "<"), EIGHT), "elements"),
        (array((1 << 63,), dtype("f8", "<"), EIGHT), "impossible shape"),
        (array((-1,), dtype("f8", "<"), EIGHT), "impossible shape"),
        (array((1.0,), dtype("f8", "<"), EIGHT), "impossible shape"),
        (array((1,) * 65, dtype("f8", "<"), EIGHT), "impossible shape"),
        (array((1 << 40, 0), dtype("f8", "<"), data(b"")), "empty rows"),
        (array((10_001,), dtype("u1", "|"), data(bytes(10_001))), "10,001 elements"),
        (array((1,), value("f8"), EIGHT), "without its values"),
        (array((1,), made("numpy.dtype", args=("f8", FALSE, TRUE)), EIGHT), "without a dtype"),
        (array((1,), made("numpy.dtype", (3,), args=("f8", FALSE, TRUE)), EIGHT), "without a dtype"),
        (call("numpy._core.multiarray._reconstruct", named("numpy.ndarray"), value((0,)), data(b"b")), "its values"),
        (call("numpy._core.multiarray.scalar", dtype("f8", "<")), "without its parts"),
        (call("numpy._core.multiarray.scalar") + EMPTY + b"b", "without its parts"),
    ],
)
def test_what_is_no_number_or_text_is_refused_in_words(opcodes, says):
    with pytest.raises(ValueError, match=r"array|numpy") as caught:
        read(opcodes)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 100


def test_as_many_elements_as_are_read():
    raw = data(struct.pack("<10000H", *range(10_000)))
    assert read(array((100, 100), dtype("u2", "<"), raw))[99][99] == 9_999
