"""Work in the background outlives what goes wrong with it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from infra.waiting import until
from tokentide_common.errors import Unavailable
from tokentide_common.every import Every


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("a row that nobody foresaw")])
async def test_what_goes_wrong_is_told_and_done_again(error: Exception) -> None:
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        if times < 3:
            raise error

    every = Every("work", work, seconds=0.001, failed="work_failed")
    with capture_logs() as lines:
        every.start()
        await until(lambda: times > 3)
        await every.stop()
    assert [line["event"] for line in lines] == ["work_failed"] * 2
