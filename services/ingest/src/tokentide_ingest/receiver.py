"""One batch from its body to its answer: read, judge, hand over, and say what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import msgspec
import structlog
from litestar.types import Receive

from tokentide_common.accounts import KeyRecord
from tokentide_common.database import utc_now
from tokentide_common.last_seen import SeenMachine
from tokentide_common.metrics import Metrics
from tokentide_common.tag_bound import TagBound
from tokentide_common.topics import ACTIVITY, USAGE
from tokentide_ingest.batch import Machine, Rejection, read_batch
from tokentide_ingest.body import read_body
from tokentide_ingest.dispatch import Dispatch, Parcel
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.prefer import wait_preference

_log = structlog.get_logger(__name__)


class BatchAnswer(msgspec.Struct, omit_defaults=True):
    """The body of an answer. `verdicts[i]` says what became of `events[i]`, where the sender waited."""

    batch_id: str
    accepted: int
    rejected: list[Rejection]
    rejected_totals: list[Rejection] = []
    stored: bool = False
    verdicts: list[str] | None = None

    @property
    def status(self) -> int:
        """200 when all of it is stored, as the sender asked for; 202 when the broker has it."""
        return 200 if self.stored else 202


class BatchReceiver:
    """Receives batches; a body must arrive within `read_timeout_s`."""

    def __init__(
        self,
        dispatch: Dispatch,
        budget: ByteBudget,
        metrics: Metrics,
        *,
        read_timeout_s: float,
        tag_values: int,
        saw: Callable[[SeenMachine], None],
    ) -> None:
        self._dispatch = dispatch
        self._budget = budget
        self._read_timeout_s = read_timeout_s
        self._tags = TagBound(metrics, source="cli", values=tag_values)
        self._saw = saw
        self._accepted = metrics.counter("tokentide_ingest_events_total", source="cli", outcome="accepted")
        self._rejected = metrics.counter("tokentide_ingest_events_total", source="cli", outcome="rejected")

    async def receive(self, key: KeyRecord, headers: Mapping[str, str], receive: Receive) -> BatchAnswer:
        """Return the answer for a batch; raises the errors of the contract."""
        wait_s = wait_preference(headers.get("prefer", ""))
        batch_id = uuid.uuid4().hex
        with self._budget.share() as share:
            body = await read_body(receive, headers, hold=share.grow, timeout_s=self._read_timeout_s)
            batch = read_batch(body, key, utc_now(), self._tags.kept)
            size = len(body)
            del body  # the records are all that has to live until the broker has them
            count = len(batch.records) + len(batch.rejected)
            parcels = [
                Parcel(USAGE, batch.records, batch.indices),
                # Facts come after the events, so that each has an index of its own to wait for.
                Parcel(ACTIVITY, batch.facts, range(count, count + len(batch.facts))),
            ]
            verdicts = await self._dispatch.hand_over(batch_id, parcels, wait_s=wait_s)
        self._saw(seen_machine(batch.machine, key, headers))
        self._accepted.inc(len(batch.records))
        self._rejected.inc(len(batch.rejected))
        _log.info(
            "batch_accepted",
            batch_id=batch_id,
            org_id=key.org_id,
            bytes=size,
            accepted=len(batch.records),
            rejected=len(batch.rejected),
            facts=len(batch.facts),
            stored=verdicts is not None,
        )
        answer = BatchAnswer(batch_id, len(batch.records), batch.rejected, batch.rejected_totals)
        if verdicts is not None and wait_s:
            answer.stored = True
            answer.verdicts = [verdicts.get(index, "rejected") for index in range(count)]
        return answer


def seen_machine(machine: Machine, key: KeyRecord, headers: Mapping[str, str]) -> SeenMachine:
    """Return which machine speaks, by its own word and that of its key."""
    product, _, version = headers.get("user-agent", "").partition("/")
    return SeenMachine(
        org_id=key.org_id,
        machine_id=key.machine_id or machine.id,
        owner_id=key.owner_id,
        name=machine.name,
        cli_version=version if product == "tokentide" else "",
    )
