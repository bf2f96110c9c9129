"""Serving: several apps in one process, each started and stopped at will, none taking the others along."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar, get

from tokentide_common.errors import TokentideError
from tokentide_common.serving import serving, stop_requested


@get("/", sync_to_thread=False)
def hello() -> str:
    return "hello"


async def fetch(port: int) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{port}/")).text


async def test_several_apps_answer_side_by_side_and_again_after_a_stop():
    for _ in range(2):
        async with (
            serving(Litestar([hello]), host="127.0.0.1", port=0) as one,
            serving(Litestar([hello]), host="127.0.0.1", port=0) as other,
        ):
            assert one != other
            assert [await fetch(one), await fetch(other)] == ["hello", "hello"]


async def test_after_the_end_the_port_is_free_again():
    async with serving(Litestar([hello]), host="127.0.0.1", port=0) as port:
        pass
    async with serving(Litestar([hello]), host="127.0.0.1", port=port) as again:
        assert again == port


async def test_a_port_that_is_taken_is_said_so():
    async with serving(Litestar([hello]), host="127.0.0.1", port=0) as port:
        with pytest.raises(TokentideError, match=str(port)):
            async with serving(Litestar([hello]), host="127.0.0.1", port=port):
                pass


async def test_an_app_that_does_not_start_leaves_the_process_and_the_other_apps_alone():
    @contextlib.asynccontextmanager
    async def broken(_app: Litestar) -> AsyncIterator[None]:
        raise OSError("the store is away")
        yield

    async with serving(Litestar([hello]), host="127.0.0.1", port=0) as healthy:
        with pytest.raises(TokentideError) as caught:
            async with serving(Litestar([hello], lifespan=[broken]), host="127.0.0.1", port=0):
                pass
        assert caught.value.stable_code == "start_failed"
        assert await fetch(healthy) == "hello"


async def test_a_request_in_work_is_answered_before_the_end():
    begun, release = asyncio.Event(), asyncio.Event()

    @get("/")
    async def slow() -> str:
        begun.set()
        await release.wait()
        return "done"

    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(Litestar([slow]), host="127.0.0.1", port=0))
        answer = asyncio.create_task(fetch(port))
        await begun.wait()
        stopping = asyncio.create_task(stack.pop_all().aclose())
        release.set()
        assert await answer == "done"
        await stopping


async def test_a_request_that_never_ends_does_not_hold_the_end_up():
    begun = asyncio.Event()

    @get("/")
    async def stuck() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async with asyncio.timeout(10):
        async with serving(Litestar([stuck]), host="127.0.0.1", port=0, drain_s=1) as port:
            answer = asyncio.create_task(fetch(port))
            await begun.wait()
        with contextlib.suppress(httpx.HTTPError):
            await answer


async def test_a_server_leaves_the_signals_of_the_process_alone():
    before = signal.getsignal(signal.SIGTERM)
    async with serving(Litestar([hello]), host="127.0.0.1", port=0):
        assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_is_waited_for(number):
    waiting = asyncio.create_task(stop_requested())
    await asyncio.sleep(0)  # lets the task set its handlers: a turn of the loop, no time
    os.kill(os.getpid(), number)
    await asyncio.wait_for(waiting, 5)


async def test_a_second_sigterm_does_not_cut_a_drain_short():
    waiting = asyncio.create_task(stop_requested())
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(waiting, 5)
    os.kill(os.getpid(), signal.SIGTERM)  # would end this very process


async def test_who_stops_waiting_gives_the_signals_back():
    before = signal.getsignal(signal.SIGTERM)
    waiting = asyncio.create_task(stop_requested())
    await asyncio.sleep(0)
    assert signal.getsignal(signal.SIGTERM) is not before
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert signal.getsignal(signal.SIGTERM) is before
