"""Archives that say of themselves what is not so, and members that are larger than anybody could know."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress

import pytest

from slackwater.errors import NotFound
from slackwater.workspace.files.archive import MEMBER_BYTES, MemberTooLarge, _read


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return made.getvalue()


@pytest.fixture(scope="module")
def many() -> bytes:
    """An archive of so many files that nobody should read its directory."""
    return archive({f"{number:0230}": b"" for number in range(20_000)}, zipfile.ZIP_STORED)


def as_it_is(many: bytes) -> bytes:
    return many


def says_it_in_zip64(many: bytes) -> bytes:
    """The end says that the directory is small, and ZIP64's end, which counts, how large it is."""
    size, offset = struct.unpack_from("<LL", many, len(many) - 10)
    beginning = many[:-22]
    large = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 20_000, 20_000, size, offset)
    found_at = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(beginning), 1)
    return beginning + large + found_at + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 50, 0, 0)


def signature_within_the_end(many: bytes) -> bytes:
    """The end has its own signature again where the offset is, which nobody needs."""
    return many[:-6] + b"PK\x05\x06" + b"\0\0"


@pytest.mark.parametrize("says_it", [as_it_is, says_it_in_zip64, signature_within_the_end])
def test_a_large_directory_is_not_read(says_it: Callable[[bytes], bytes], many: bytes) -> None:
    made = says_it(many)
    assert len(zipfile.ZipFile(io.BytesIO(made)).infolist()) == 20_000
    with pytest.raises(MemberTooLarge):
        _read(io.BytesIO(made), "1")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_cannot_be_unpacked_piece_by_piece_are_not_there(method: int) -> None:
    made = archive({"a.txt": b"\0" * MEMBER_BYTES}, method)
    assert len(made) < 20_000
    with pytest.raises(NotFound):
        _read(io.BytesIO(made), "a.txt")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_what_is_broken_is_not_there(method: int) -> None:
    made, draw = archive({"a.txt": b"a" * 500, "b/c.txt": b"b"}, method), random.Random(1)
    for _ in range(1000):
        broken = bytearray(made)
        for _ in range(draw.randint(1, 6)):
            broken[draw.randrange(len(broken))] = draw.choice((0, 255, draw.randrange(256)))
        del broken[draw.choice((len(broken), draw.randrange(len(broken)))) :]
        with suppress(NotFound, MemberTooLarge):
            _read(io.BytesIO(bytes(broken)), "a.txt")
