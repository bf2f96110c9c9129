"""The filter of counted calls: says "certainly new" for most calls, so that only the rest are looked up.

A pure accelerator: built from the index, never persisted, no false negatives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from tokentide_common.store import Store

_BITS_PER_CALL: Final = 20  # 2.5 bytes a call
# 0.3 % false positives when full; with two 0.9 %, and each of them is looked up in every part of the index.
_PROBES: Final = 3
_LEAST_CALLS: Final = 1 << 20
_SLICES: Final = 256

Hashes = npt.NDArray[np.uint64]


class CallFilter:
    """A bitmap probed three times per call, at places that the two halves of its 128-bit hash give."""

    def __init__(self, calls: int) -> None:
        self.capacity = max(_LEAST_CALLS, calls + calls // 4)
        self.added = 0
        self._size = np.uint64(self.capacity * _BITS_PER_CALL // 8 * 8)
        self._bits = np.zeros(int(self._size) // 8, dtype=np.uint8)

    def add(self, hashes: bytes) -> None:
        """Remember calls: their 16-byte hashes, one after the other."""
        halves = np.frombuffer(hashes, dtype="<u8").reshape(-1, 2)
        self.added += len(halves)
        for place in self._places(halves):
            bit = np.left_shift(np.uint8(1), (place & np.uint64(7)).astype(np.uint8))
            np.bitwise_or.at(self._bits, (place >> np.uint64(3)).astype(np.int64), bit)

    def maybe(self, hashes: bytes) -> npt.NDArray[np.intp]:
        """Return the positions of the calls that may be known; all others are certainly new."""
        halves = np.frombuffer(hashes, dtype="<u8").reshape(-1, 2)
        hit = np.ones(len(halves), dtype=np.bool_)
        for place in self._places(halves):
            byte = self._bits[(place >> np.uint64(3)).astype(np.int64)]
            hit &= (byte >> (place & np.uint64(7)).astype(np.uint8)) & np.uint8(1) == 1
        return np.nonzero(hit)[0]

    def _places(self, halves: Hashes) -> Iterator[Hashes]:
        step = halves[:, 1] | np.uint64(1)
        for probe in range(_PROBES):
            yield (halves[:, 0] + np.uint64(probe) * step) % self._size  # wraps around, always alike


class CountedCalls:
    """The filter in use and, while partitions changed hands, the one that will replace it.

    A partition is answered from the filter only if the filter was built after the partition became ours:
    before that, another member may have counted calls that the filter has not heard of.
    """

    def __init__(self, store: Store, index: str) -> None:
        self._store = store
        self._index = index
        self._filter = CallFilter(0)
        self._building: CallFilter | None = None
        self._covered: set[int] = set()

    def forget(self, partitions: Iterable[int]) -> None:
        """Stop answering for partitions, since they changed hands."""
        self._covered -= set(partitions)

    def covers(self, partition: int) -> bool:
        """Tell whether the filter may be asked about a partition."""
        return partition in self._covered

    @property
    def full(self) -> bool:
        """Tell whether false positives have begun to rise."""
        return self._filter.added > self._filter.capacity

    @property
    def size_bytes(self) -> int:
        """Return the memory of the bitmap."""
        return self._filter.capacity * _BITS_PER_CALL // 8

    def maybe(self, hashes: bytes) -> npt.NDArray[np.intp]:
        """Return the positions of the calls that may be known."""
        return self._filter.maybe(hashes)

    def add(self, hashes: bytes) -> None:
        """Remember calls; call it only after the index has them."""
        self._filter.add(hashes)
        if self._building is not None:
            self._building.add(hashes)

    async def rebuild(self, partitions: Iterable[int]) -> None:
        """Build a new filter from the index; then answer for `partitions`, which must be ours by now.

        Memory is bounded: the index is read in slices of the hash space.
        """
        sql = f"SELECT count() FROM {self._index}"  # noqa: S608 -- our own name
        count = int(await self._store.read(sql, fmt="TSV"))
        mine = set(partitions)
        # From here on `add` reaches the new filter too; what was added before is in the index already.
        self._building = building = CallFilter(count)
        slices = min(_SLICES, 1 + count // 500_000)
        for n in range(slices):
            low, high = n * 256 // slices, (n + 1) * 256 // slices
            building.add(await self._slice(low, high))
        self._filter, self._building = building, None
        self._covered |= mine

    async def _slice(self, low: int, high: int) -> bytes:
        sql = f"SELECT call_hash FROM {self._index} WHERE call_hash >= unhex({{low:String}})"  # noqa: S608 -- our own name
        if high < 256:
            sql += " AND call_hash < unhex({high:String})"
        bounds = {"low": f"{low:02x}" + "00" * 15, "high": f"{min(high, 255):02x}" + "00" * 15}
        return await self._store.read(sql, bounds, fmt="RowBinary")
