"""Work after the answer: bounded, and never a failure of whoever asked."""

from __future__ import annotations

from structlog.testing import capture_logs

from tokentide_common.errors import Unavailable
from tokentide_query_api.accounts import afterwards
from tokentide_query_api.accounts.afterwards import Afterwards


async def test_it_is_done_later_and_an_outage_is_logged():
    done, work = [], Afterwards()

    async def note() -> None:
        done.append(1)

    async def fail() -> None:
        raise Unavailable("away", code="database_unavailable")

    with capture_logs() as logged:
        work.do("note", note())
        work.do("fail", fail())
        assert done == []
        await work.finished()
    assert done == [1]
    assert [line["event"] for line in logged] == ["background_work_failed"]


async def test_what_is_too_much_is_left(monkeypatch):
    monkeypatch.setattr(afterwards, "_WAITING", 2)
    done, work = [], Afterwards()

    async def note() -> None:
        done.append(1)

    with capture_logs() as logged:
        for _ in range(5):
            work.do("note", note())
        await work.finished()
    assert done == [1, 1]
    assert [line["event"] for line in logged] == ["background_work_left"] * 3
