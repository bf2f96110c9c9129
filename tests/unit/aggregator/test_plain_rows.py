"""A state that amounts to one plain observation is written the short way, whatever its version."""

from __future__ import annotations

from functools import reduce

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.observations import observations
from tokentide_aggregator.rows import decode_row, is_plain, plain_row, row_of_state, state_of_row
from tokentide_common.merge import add, merged


@given(
    st.lists(observations(links=("a", "b")), min_size=1, max_size=4),
    st.integers(1, 9),
    st.none() | st.integers(0, 10**9),
)
def test_the_short_way_gives_the_row_of_the_long_way(events, version, cost_nano):
    state = dict(reduce(add, events, {}))
    assume(len(state) == 1)
    (event,) = state.values()
    assume(is_plain(event))
    record, token_source = merged(state)
    long = row_of_state(
        state, record, token_source=token_source, cost_nano=cost_nano, price_version="v1", version=version
    )
    short = decode_row(plain_row(event, cost_nano, "v1", version))
    long.digest = short.digest  # of bytes, which the long way does not make
    assert msgspec.to_builtins(short) == msgspec.to_builtins(long)
    assert state_of_row(short) == state
