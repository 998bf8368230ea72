"""The zip structure: torch's own files are understood, and whatever two readers could read differently is refused."""

import os
import struct
import zipfile
import zlib
from functools import partial

import pytest
import torch

from containers.builders import Entry, build_zip, local_part, padding, pickled, saved, torch_entries
from metta_hub.containers import torch_zip, zip_records, zips
from metta_hub.containers.zip_records import Member
from metta_hub.errors import ChecksumError, FormatError

CONTENT = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(3), "empty": torch.zeros(0)}


def look(content, path="a file"):
    return zips.look(lambda count, offset: content[offset : offset + count], len(content), path)


def entries(*more):
    return [Entry("a/data.pkl", b"N."), Entry("a/data/0", b"12345678"), *more, Entry("a/version", b"3\n")]


def refused(content, *says):
    with pytest.raises(FormatError) as caught:
        look(content)
    for text in says:
        assert text in str(caught.value)
    return str(caught.value)


def test_members_of_a_file_of_torchs(tmp_path):
    path = saved(CONTENT, tmp_path / "model.pt")
    content = path.read_bytes()
    with zipfile.ZipFile(path) as oracle:
        expected = [(info.filename, info.header_offset, info.file_size, info.CRC) for info in oracle.infolist()]
        bytes_of = {info.filename: oracle.read(info) for info in oracle.infolist()}
    archive = look(content)
    assert [(member.name, member.header, member.size, member.crc32) for member in archive.members] == expected
    for member in archive.members:
        assert content[member.offset : member.offset + member.size] == bytes_of[member.name]
        assert member.offset % zip_records.ALIGNMENT == 0
    assert archive.checksummed


def test_a_zip_of_pythons_is_understood(tmp_path):
    path = tmp_path / "plain.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a/data.pkl", b"N.")
        out.writestr("a/empty", b"")
    found = look(path.read_bytes())
    assert [member.name for member in found.members] == ["a/data.pkl", "a/empty"]


def test_a_zip64_header_that_was_not_needed_is_understood(tmp_path):
    path = tmp_path / "plain.zip"
    with zipfile.ZipFile(path, "w") as out, out.open("a/data.pkl", "w", force_zip64=True) as member:
        member.write(b"N.")
    (found,) = look(path.read_bytes()).members
    assert path.read_bytes()[found.offset : found.offset + found.size] == b"N."
    content = bytearray(path.read_bytes())
    content[found.offset - 8] ^= 1  # one of the sizes in the field
    refused(bytes(content), "contradicts")


def test_an_empty_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    assert look((tmp_path / "empty.zip").read_bytes()).members == ()


def test_the_order_of_the_directory_does_not_matter():
    first, second = Entry("a/1", b"one"), Entry("a/2", b"two")
    content = build_zip([first, second])
    split = content.index(b"PK\1\2")
    length = 46 + 3
    swapped = (
        content[:split]
        + content[split + length : split + 2 * length]
        + content[split : split + length]
        + content[split + 2 * length :]
    )
    assert look(swapped) == look(content)


def test_checksums_of_zero_are_checksums_unless_all_are():
    assert not look(build_zip([Entry("a/1", b"one", crc=0), Entry("a/2", b"two", crc=0)])).checksummed
    content = build_zip([Entry("a/1", b"one", crc=0), Entry("a/2", b"two")])
    archive = look(content)
    assert archive.checksummed
    with pytest.raises(ChecksumError, match="its member 'a/1' is damaged"):
        zips.read_member(lambda count, offset: content[offset : offset + count], archive, archive.members[0], "f")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a zip archive"),
        (b"PK", "not a zip archive"),
        (b"GIF89a" + b"\0" * 200, "not a zip archive"),
        (b"PK\3\4" + b"\0" * 200, "cut short: the directory at its end is missing"),
        (build_zip(entries(), after=b"tail"), "bytes after its end record"),
        (build_zip(entries(), comment=b"hello"), "bytes after its end record"),
        (build_zip(entries(), before=b"#!/bin/sh\n"), "10 bytes before its first member"),
        (build_zip([Entry("a/1", b"x", after=b"gap"), Entry("a/2")]), "belong to nothing"),
        (build_zip([Entry("a/1", b"x", after=b"gap")]), "belong to nothing"),
        (build_zip([Entry("a/1", b"x", flags=0x800, after=b"gap"), Entry("a/2")]), "3 bytes after its member 'a/1'"),
        (build_zip(entries(Entry("a/hidden", b"secret", hidden=True))), "belong to nothing"),
        (build_zip(entries(Entry("a/data.pkl", b"cos\nsystem\n."))), "it holds 'a/data.pkl' twice"),
        (build_zip(entries(Entry("a/1", b"x", method=12))), "'a/1' is compressed by another method than deflate"),
        (build_zip(entries(Entry("a/1", b"x", flags=0x0809))), "'a/1' is encrypted"),
        (build_zip(entries(Entry("a/1", b"x", flags=0x0848))), "damaged at member 'a/1'"),
        (build_zip(entries(Entry("a/1", b"x", comment=b"c"))), "its directory is damaged"),
        (build_zip(entries(Entry("a/1", b"x", local_name="a/2"))), "the local header of its member 'a/1' contradicts"),
        (build_zip(entries(Entry("a/1", b"x", local_name="a/longer"))), "contradicts"),
        (build_zip(entries(Entry("a/1", b"x", local_flags=0x0800, descriptor=b""))), "contradicts"),
        (build_zip(entries(Entry("a/1", b"x", local_sizes=(0, 7, 7)))), "contradicts"),
        (build_zip(entries(Entry("a/1", b"x", local_sizes=(5, 0, 0)))), "contradicts"),
        (build_zip(entries(Entry("a/1", b"x", flags=0x800, local_sizes=(0, 0, 0)))), "contradicts"),
        (build_zip(entries(Entry("a/1", b"x", descriptor=b"PK\7\x08" + b"\1" * 12))), "after its member 'a/1'"),
        (build_zip(entries(Entry("a/1", b"x", descriptor=b"\0" * 16))), "after its member 'a/1'"),
        (build_zip(entries(Entry("a/1", b"x", descriptor=b"\0" * 12))), "belong to nothing"),
        (build_zip(entries(Entry("a/1", b"x", extra=b"UT\5\0\3abcd"))), "fields that PyTorch never writes"),
        (build_zip(entries(Entry("a/1", b"x", extra=b"FB\6\0secret"))), "fields that PyTorch never writes"),
        (build_zip(entries(Entry("a/1", b"x", extra=b"FB"))), "fields that PyTorch never writes"),
        (build_zip(entries(Entry("a/1", b"x", extra=padding(3) + padding(3)))), "fields that PyTorch never writes"),
        (build_zip(entries(Entry("a/1", b"x", central_extra=padding(3)))), "extra fields that PyTorch never writes"),
        (build_zip(entries(Entry("a/1", b"x", size=1 << 31))), "'a/1' claims 2,147,483,648 bytes"),
        (build_zip(entries(Entry("a/1", b"x", offset=1 << 31))), ""),
        (build_zip(entries(Entry("a/1", b"x", offset=0))), ""),
        (build_zip(entries(), count=60_000), "cut short"),
        (build_zip(entries(), count=0), ""),
        (build_zip(entries(), count=2), ""),
        (build_zip(entries(), directory=(1, 2)), "does not end where its end record begins"),
        (build_zip(entries(), directory=(0xFFFFFFFF, 0xFFFFFFFF)), "does not end where its end record begins"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(content, says):
    refused(content, says)


def test_padding_for_a_larger_alignment_is_accepted():
    content = build_zip([Entry("a/1", b"x", extra=padding(4000)), Entry("a/2", b"y", extra=b"")])
    assert [member.size for member in look(content).members] == [1, 1]


def test_an_overlapping_member_is_refused():
    inner = local_part(Entry("a/2", b"inner"), 0)
    outer = Entry("a/1", inner)
    hidden = Entry("a/2", b"inner")
    content = build_zip([outer])
    start = content.index(inner)
    hidden.written = start
    refused(build_zip([outer, Entry("a/2", b"inner", offset=start)]), "overlaps")


def test_a_terabyte_that_is_not_there_is_refused(tmp_path):
    extra = struct.pack("<HH2Q", 1, 16, 1 << 40, 1 << 40)
    huge = Entry("a/1", b"x", size=0xFFFFFFFF, central_extra=extra)
    refused(build_zip(entries(huge)), "claims 1,099,511,627,776 bytes")


@pytest.mark.parametrize(
    "extra",
    [
        struct.pack("<HHQ", 1, 8, 1),
        struct.pack("<HH2Q", 1, 16, 1, 2),
        struct.pack("<HH3Q", 1, 24, 1, 1, 0),
        struct.pack("<HH2Q", 1, 16, 1, 1) + b"more",
        struct.pack("<HH", 1, 16),
        b"",
    ],
)
def test_zip64_fields_that_do_not_fit_are_refused(extra):
    refused(build_zip(entries(Entry("a/1", b"x", size=0xFFFFFFFF, central_extra=extra))))


def test_absurd_counts_are_refused(monkeypatch):
    monkeypatch.setattr(zips, "MAX_MEMBERS", 2)
    refused(build_zip(entries()), "it claims 3 members")


def test_two_end_records_that_disagree_are_refused(tmp_path):
    content = bytearray(saved(CONTENT, tmp_path / "model.pt").read_bytes())
    content[-12] ^= 1  # the number of members in the 32-bit record
    refused(bytes(content), "contradict")
    content[-12] ^= 1
    content[-42 + 8] ^= 1  # where the 64-bit record is
    refused(bytes(content), "zip64 end record")


def test_what_is_written_is_what_python_reads(tmp_path):
    path = tmp_path / "written.zip"
    members, out = [], bytearray()
    for name, data in (("a/data.pkl", b"N."), ("a/empty", b""), ("a/data/0", b"x" * 100)):
        header = zip_records.local_header(name.encode(), len(data), len(out))
        member = Member(
            name, len(out), len(out) + len(header), len(data), zlib.crc32(data), zip_records.flags_of(len(data))
        )
        members.append(member)
        out += header + data + zip_records.descriptor(member)
        assert zip_records.end(members) == len(out)
    path.write_bytes(bytes(out) + zip_records.directory(members, len(out)))
    with zipfile.ZipFile(path) as oracle:
        assert oracle.testzip() is None
        assert oracle.read("a/data/0") == b"x" * 100
    assert list(look(path.read_bytes()).members) == members


def test_members_beyond_four_gigabytes(tmp_path):
    """A sparse file: a member of 5 GiB, then small ones that start beyond what 32 bits can say."""
    path = tmp_path / "large.pt"
    data = pickled({})
    members = []
    with path.open("wb") as out:
        for name, content in (("a/data.pkl", data), ("a/data/0", 5 << 30), ("a/data/1", b""), ("a/version", b"3\n")):
            at = out.tell()
            size = content if isinstance(content, int) else len(content)
            crc = 0 if isinstance(content, int) else zlib.crc32(content)
            header = zip_records.local_header(name.encode(), size, at)
            members.append(Member(name, at, at + len(header), size, crc, zip_records.flags_of(size)))
            out.write(header)
            if isinstance(content, int):
                out.seek(content, os.SEEK_CUR)
            else:
                out.write(content)
            out.write(zip_records.descriptor(members[-1]))
        out.write(zip_records.directory(members, out.tell()))
    with zipfile.ZipFile(path) as oracle:
        assert oracle.read("a/version") == b"3\n"
        assert oracle.getinfo("a/data/0").file_size == 5 << 30
    assert torch._C.PyTorchFileReader(str(path)).get_record("version") == b"3\n"
    with path.open("rb") as file:
        found = zips.look(partial(os.pread, file.fileno()), path.stat().st_size, path)
    assert list(found.members) == members
    assert torch_zip.look(path).unused_bytes == 5 << 30


def test_truncated_anywhere():
    content = build_zip(torch_entries(pickled({}), {"0": b"12345678"}))
    for end in range(len(content)):
        refused(content[:end])
