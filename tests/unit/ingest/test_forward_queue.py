import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tokentide_ingest.otlp.forward_queue import DiskQueue, DropReason

LANES = 3
BLOCK = 4096


class Queue(DiskQueue):
    """A queue that remembers what it dropped, and reads a whole lane."""

    def __init__(self, folder: Path, max_bytes: int = 1 << 20) -> None:
        self.drops: list[DropReason] = []
        super().__init__(folder, lanes=LANES, max_bytes=max_bytes, dropped=self.drops.append)

    async def drained(self, lane: int = 0) -> list[bytes]:
        found = []
        while self._lanes[lane]:
            entry = await self.head(lane)
            data = await self.read(entry)
            assert data is not None
            found.append(data)
            await self.remove(entry)
        return found


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    made = Queue(tmp_path / "queue", max_bytes=4 * BLOCK)
    assert await made.open()
    yield made
    await made.close()


async def test_a_lane_gives_back_what_it_got_in_order(queue: Queue) -> None:
    await asyncio.gather(*(queue.append(1, b"%d" % number) for number in range(4)))
    assert await queue.drained(1) == [b"0", b"1", b"2", b"3"]
    assert (queue.held_bytes, queue.held_requests) == (0, 0)


async def test_whoever_waits_for_a_lane_wakes_when_it_fills(queue: Queue) -> None:
    waiting = asyncio.create_task(queue.head(2))
    await queue.append(2, b"x")
    assert await queue.read(await waiting) == b"x"


async def test_a_full_queue_drops_its_oldest_whatever_its_lane(queue: Queue) -> None:
    for number in range(6):
        assert await queue.append(number % 2, b"%d" % number)
    assert queue.drops == ["queue_full"] * 2
    assert await queue.drained(0) == [b"2", b"4"]
    assert await queue.drained(1) == [b"3", b"5"]


async def test_what_could_never_fit_drops_nothing_else(queue: Queue) -> None:
    await queue.append(0, b"small")
    assert not await queue.append(0, b"x" * 5 * BLOCK)
    assert queue.drops == ["queue_full"]
    assert await queue.drained(0) == [b"small"]


async def test_an_entry_dropped_while_it_is_delivered_is_not_removed_twice(queue: Queue) -> None:
    await queue.append(0, b"first")
    entry = await queue.head(0)
    for _ in range(4):
        await queue.append(0, b"next")
    held = queue.held_bytes
    assert not await queue.remove(entry)
    assert queue.held_bytes == held == 4 * BLOCK


async def test_what_was_appended_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = Queue(tmp_path)
    assert await first.append(0, b"before it was open")
    assert await first.open()
    assert await first.append(0, b"after")
    await first.close()
    (tmp_path / "00000000000000000001-00.part").write_bytes(b"half")
    (tmp_path / "something else").write_bytes(b"")
    second = Queue(tmp_path)
    assert await second.open()
    assert await second.append(0, b"later")
    assert second.held_bytes == 3 * BLOCK
    assert await second.drained() == [b"before it was open", b"after", b"later"]
    await second.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "something else"]


async def test_opening_amid_appends_lists_every_request_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    numbers = [b"%d" % number for number in range(30)]
    before = [asyncio.create_task(queue.append(0, number)) for number in numbers[:15]]
    opened = asyncio.create_task(queue.open())
    after = [asyncio.create_task(queue.append(0, number)) for number in numbers[15:]]
    await asyncio.gather(opened, *before, *after)
    assert queue.held_bytes == 30 * BLOCK
    assert await queue.drained() == numbers
    assert queue.held_bytes == 0
    await queue.close()


async def test_a_caller_who_leaves_does_not_lose_its_request(queue: Queue) -> None:
    leaving = asyncio.create_task(queue.append(0, b"kept"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await queue.read(await queue.head(0)) == b"kept"


async def test_only_one_process_empties_a_folder(tmp_path: Path) -> None:
    first, second = Queue(tmp_path), Queue(tmp_path)
    assert await first.open()
    assert not await second.open()
    await first.append(0, b"x")
    await first.close()
    assert await second.open()
    assert await second.drained() == [b"x"]
    await second.close()


async def test_a_damaged_file_is_told_from_a_whole_one(queue: Queue, tmp_path: Path) -> None:
    await queue.append(0, b"some content")
    [path] = tmp_path.rglob("*.request")
    path.write_bytes(path.read_bytes()[:-1])
    entry = await queue.head(0)
    assert await queue.read(entry) is None
    path.unlink()
    assert await queue.read(entry) is None


async def test_nobody_else_may_read_what_waits(queue: Queue, tmp_path: Path) -> None:
    await queue.append(0, b"x")
    assert stat.S_IMODE((tmp_path / "queue").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "queue").iterdir()}
    assert modes == {0o600}


async def test_a_disk_that_takes_nothing_is_counted_and_raises_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.write_text("a file is in the way")
    queue = Queue(folder)
    with pytest.raises(OSError, match="exists"):
        await queue.open()
    assert not await queue.append(0, b"x")
    assert (queue.drops, queue.held_bytes) == (["disk_error"], 0)
    await queue.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_a_full_disk_leaves_no_half_of_a_request(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def open_full(path: Path, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith(".part"):
            os.close(real_open(path, flags, mode))
            return real_open("/dev/full", os.O_WRONLY)
        return real_open(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_full)
        assert not await queue.append(0, b"x" * 100_000) or queue.drops
        assert not await queue.append(0, b"x")
    assert "disk_error" in queue.drops
    assert await queue.append(0, b"room again")
    assert await queue.drained() == [b"room again"]
