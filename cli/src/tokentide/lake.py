"""A folder of Parquet files by day or hour: where each lies, and which calls it was made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from tokentide.files import replace_file

_WIDTH: Final = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
_STATE: Final = "_tokentide.json"  # readers of such folders pass over names that begin like this
_FILE: Final = "calls.parquet"


class Partition(msgspec.Struct, frozen=True):
    """A day or an hour in UTC, and a digest of what the server counts in it."""

    start: datetime
    end: datetime
    calls: int
    digest: str


def partitions_of(timeseries: dict[str, Any], width: str) -> list[Partition]:
    """Return a partition for each bucket of a timeseries in UTC. Pure."""
    found = []
    for series in timeseries["series"]:
        for point in series["points"]:
            start = datetime.fromisoformat(point["start"]).astimezone(UTC)
            said = json.dumps(point, sort_keys=True)
            digest = hashlib.sha256(said.encode()).hexdigest()[:32]
            found.append(Partition(start, start + _WIDTH[width], point["calls"], digest))
    return found


class Lake:
    """The folder. Its state says of each file what it was made of; without it all are written anew."""

    def __init__(self, folder: Path, width: str) -> None:
        self._folder = folder
        self._width = width
        self._digests = _read(folder / _STATE)

    def has(self, part: Partition) -> bool:
        """Tell whether the file is there and made of these very sums."""
        return self._digests.get(self._name(part)) == part.digest and self._path(part).exists()

    @contextlib.contextmanager
    def writing(self, part: Partition) -> Iterator[BinaryIO]:
        """Give a file to write to; it takes its place when all of it is there, in one step."""
        path = self._path(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"_{path.name}.part")
        try:
            with unfinished.open("wb") as out:
                yield out
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def keep(self, part: Partition) -> None:
        """Remember what a file was made of: after it is in place, so that a crash writes it again."""
        self._digests[self._name(part)] = part.digest
        self._save()

    def remove(self, part: Partition) -> int:
        """Remove the file of a partition that has no calls any more; return how many were there."""
        there = self._path(part).exists()
        self._path(part).unlink(missing_ok=True)
        if self._digests.pop(self._name(part), None) is not None:
            self._save()
        return int(there)

    def _name(self, part: Partition) -> str:
        place = f"year={part.start:%Y}/month={part.start:%m}/day={part.start:%d}"
        return f"{place}/hour={part.start:%H}/{_FILE}" if self._width == "hour" else f"{place}/{_FILE}"

    def _path(self, part: Partition) -> Path:
        return self._folder / self._name(part)

    def _save(self) -> None:
        replace_file(self._folder / _STATE, msgspec.json.encode(self._digests, order="sorted"))


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
