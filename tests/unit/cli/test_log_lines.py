"""Lines of a file that is still being written, however the bytes arrive."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from tokentide.log_lines import complete_lines

LINES = st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=20)


@given(LINES, st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), st.integers(1, 64))
def test_every_complete_line_comes_once_and_the_unfinished_one_waits(
    lines: list[bytes], unfinished: bytes, chunk_bytes: int
) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    read = list(complete_lines(io.BytesIO(whole + unfinished), 0, chunk_bytes=chunk_bytes))
    assert [line.content for line in read] == lines
    assert (read[-1].end if read else 0) == len(whole)


@given(LINES, st.data(), st.integers(1, 64))
def test_reading_in_two_goes_at_any_byte_gives_what_one_gives(
    lines: list[bytes], data: st.DataObject, chunk_bytes: int
) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    cut = data.draw(st.integers(0, len(whole)))
    first = list(complete_lines(io.BytesIO(whole[:cut]), 0, chunk_bytes=chunk_bytes))
    offset = first[-1].end if first else 0
    rest = list(complete_lines(io.BytesIO(whole), offset, chunk_bytes=chunk_bytes))
    assert [line.content for line in first + rest] == lines


@given(LINES, st.integers(0, 30), st.integers(1, 64))
def test_a_huge_line_is_passed_over_and_its_neighbours_are_not(
    lines: list[bytes], longest: int, chunk_bytes: int
) -> None:
    stream = io.BytesIO(b"".join(line + b"\n" for line in lines))
    read = [line.content for line in complete_lines(stream, 0, chunk_bytes=chunk_bytes, longest=longest)]
    assert read == [line if len(line) <= longest else None for line in lines]
