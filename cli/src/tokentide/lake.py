"""A lake of Parquet files by day or hour: whose calls it has, where each lies, what it was made of."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Final

import msgspec

from tokentide.failures import Exit, Failure
from tokentide.lake_folder import Storage

_WIDTH: Final = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
_STATE: Final = "_tokentide.json"  # readers of such folders pass over names that begin like this
_FILE: Final = "calls.parquet"


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds: of two of these together every sum would be wrong."""

    partition: str
    organization_id: str
    user_id: str
    """Whose calls; empty: all of the organisation."""

    def __str__(self) -> str:
        whose = f"user {self.user_id}" if self.user_id else "everybody"
        return f"a file for each {self.partition} with the calls of {whose} in {self.organization_id}"


class _State(msgspec.Struct, frozen=True):
    contents: Contents
    files: dict[str, str]


class Partition(msgspec.Struct, frozen=True):
    """A day or an hour in UTC, and the fingerprint of the calls that the server has of it."""

    start: datetime
    end: datetime
    calls: int
    digest: str


def partitions_of(answer: dict[str, Any], width: str) -> list[Partition]:
    """Return what the server says of each day or hour in UTC. Pure."""
    found = []
    for said in answer["partitions"]:
        start = datetime.fromisoformat(said["start"]).astimezone(UTC)
        found.append(Partition(start, start + _WIDTH[width], said["calls"], said["fingerprint"]))
    return found


class Lake:
    """The files. Its state says of each what it was made of; without it all are written anew.

    Raises `Failure` for a place that holds something else.
    """

    def __init__(self, storage: Storage, contents: Contents) -> None:
        self._storage = storage
        self._contents = contents
        self._digests = _read(storage, contents)

    def has(self, part: Partition) -> bool:
        """Tell whether the file is there and made of these very sums."""
        name = self._name(part)
        return self._digests.get(name) == part.digest and self._storage.has(name)

    def writing(self, part: Partition) -> AbstractContextManager[BinaryIO]:
        """Give a file to write to; it takes its place when all of it is there, in one step."""
        return self._storage.writing(self._name(part))

    def keep(self, part: Partition) -> None:
        """Remember what a file was made of: after it is in place, so that a crash writes it again."""
        self._digests[self._name(part)] = part.digest
        self._save()

    def remove(self, part: Partition) -> int:
        """Remove the file of a partition that has no calls any more; return how many were there."""
        there = self._storage.remove(self._name(part))
        if self._digests.pop(self._name(part), None) is not None:
            self._save()
        return int(there)

    def _name(self, part: Partition) -> str:
        place = f"year={part.start:%Y}/month={part.start:%m}/day={part.start:%d}"
        return (
            f"{place}/hour={part.start:%H}/{_FILE}"
            if self._contents.partition == "hour"
            else f"{place}/{_FILE}"
        )

    def _save(self) -> None:
        state = _State(self._contents, self._digests)
        self._storage.replace(_STATE, msgspec.json.encode(state, order="sorted"))


def _read(storage: Storage, contents: Contents) -> dict[str, str]:
    try:
        state = msgspec.json.decode(storage.read(_STATE) or b"", type=_State)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    if state.contents != contents:
        raise Failure(
            f"{storage} holds {state.contents}; asked for is {contents}",
            hint="name another folder with --to, or remove this one first",
            code=Exit.USAGE,
        )
    return state.files
