"""Look-ups stay within what a server takes, whatever the ids are made of."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.binding import bind_query

from tokentide_aggregator.known import pieces_of

SERVER_LIMIT = 128 * 1024


@pytest.mark.parametrize("character", ["a", "'", "\\", "\n", "\x00", "é", "\u2028", "\U0001f600"])
def test_no_parameter_of_a_look_up_is_larger_than_a_server_takes(character):
    wanted = [("org_1", f"{n:06d}{character * 250}", 1_795_000_000_000 + n) for n in range(3000)]
    pieces = list(pieces_of(wanted))
    assert [one for piece in pieces for one in piece] == wanted
    for piece in pieces:
        _, bound = bind_query("SELECT {ids:Array(String)}", {"ids": [one[1] for one in piece]}, None)
        assert all(len(str(value).encode()) < SERVER_LIMIT for value in bound.values())
