"""Frames on disk: what is whole is read, what is damaged is skipped, and nothing is made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.outbox import Record
from tokentide_proxy.spool_format import framed, read_frames

RECORDS = [Record(b"call_%d" % n, b'{"call_id":"call_%d","n":%d}' % (n, n * n)) for n in range(5)]
FRAMES = [framed(record) for record in RECORDS]
WHOLE = b"".join(FRAMES)
ENDS = [sum(map(len, FRAMES[: n + 1])) for n in range(len(FRAMES))]


@given(st.lists(st.tuples(st.none() | st.binary(), st.none() | st.binary(max_size=2000)), max_size=20))
def test_what_is_written_is_read(pairs):
    records = [Record(key, value) for key, value in pairs]
    piece = b"".join(map(framed, records))
    found = read_frames(piece, 100)
    assert (found.records, found.end, found.damaged_bytes) == (records, len(piece), 0)


def test_reading_stops_at_the_limit_and_goes_on_from_there():
    first = read_frames(WHOLE, 2)
    assert (first.records, first.end) == (RECORDS[:2], ENDS[1])
    rest = read_frames(WHOLE[first.end :], 100)
    assert first.records + rest.records == RECORDS


def test_a_tail_torn_at_any_byte_costs_the_torn_record_only():
    for length in range(len(WHOLE)):
        whole = sum(end <= length for end in ENDS)
        found = read_frames(WHOLE[:length], 100)
        assert found.records == RECORDS[:whole]
        assert found.end == length
        assert found.damaged_bytes == length - ([0, *ENDS][whole])


@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF])
def test_a_damaged_byte_anywhere_costs_the_record_it_is_in_and_no_neighbour(bits):
    for position in range(len(WHOLE)):
        hit = sum(end <= position for end in ENDS)
        piece = bytearray(WHOLE)
        piece[position] ^= bits
        found = read_frames(bytes(piece), 100)
        assert found.records == [record for n, record in enumerate(RECORDS) if n != hit]
        assert found.damaged_bytes == len(FRAMES[hit])


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_garbage_between_records_is_skipped_and_counted(before, between):
    piece = before + FRAMES[0] + between + FRAMES[1]
    found = read_frames(piece, 100)
    assert found.records == RECORDS[:2]
    assert found.damaged_bytes == len(before) + len(between)


@given(st.binary(max_size=2000))
def test_garbage_alone_is_no_record(garbage):
    found = read_frames(garbage, 100)
    assert (found.records, found.end, found.damaged_bytes) == ([], len(garbage), len(garbage))
