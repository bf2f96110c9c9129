"""Memory that a block leaves free goes back to the system."""

from __future__ import annotations

import sys

import psutil
import pytest

from tokentide_aggregator.allocator import give_back


@pytest.mark.skipif(sys.platform != "linux", reason="glibc keeps what is freed; others have their own ways")
def test_what_a_block_leaves_free_in_small_pieces_is_given_back():
    process = psutil.Process()
    keep = []
    rows = []
    for number in range(100_000):
        rows.append(bytes(900))
        if number % 10_000 == 0:
            keep.append(bytes(900))  # what lives on between the rows, as the rows in memory do
    del rows
    give_back()
    before = process.memory_info().rss
    rows = [bytes(900) for _ in range(100_000)]
    grown = process.memory_info().rss
    rows.clear()
    give_back()
    assert grown - before > 60_000_000
    assert process.memory_info().rss - before < 20_000_000
