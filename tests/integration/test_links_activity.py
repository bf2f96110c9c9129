"""Activity that names nobody is the person's whom other sources name for its session, and vice versa."""

from __future__ import annotations

import itertools
from typing import Any

from infra.activity_facts import FactCounter, fact, sums
from infra.counting import live_rows
from infra.linked import Linked
from infra.observations import NOON
from tokentide_common.activity import ActivityFact, decode_fact
from tokentide_common.events import UsageEvent
from tokentide_common.merge import canonical
from tokentide_common.store import Store, rows

ANN, BOB = "ann@x.io", "bob@x.io"
DEVICE = "d" * 64


def said(call_id: str, session: str, **fields: Any) -> UsageEvent:
    fields = {"source": "otlp", "org_id": "o", "occurred_at": NOON, "output_tokens": 5, **fields}
    return canonical(UsageEvent(call_id=call_id, session_id=session, **fields))


class Both(Linked):
    """Aggregators of calls beside one of activity."""

    def __init__(self, store: Store, folder: Any, topic: str) -> None:
        super().__init__(store, folder, topic)
        self.facts = FactCounter(store, folder, f"{topic}-activity")

    async def settle(self) -> None:
        """Count until nothing is published any more."""
        while self.waiting or self.activity or self.facts.committed < len(self.facts.log):
            await self.count_all()
            told, self.activity = self.activity, []
            self.facts.append(decode_fact(record.value or b"") for record in told)
            if self.facts.committed < len(self.facts.log):
                outcome = await self.facts.count(100)
                self.send(outcome.concluded.records)
                self.activity += outcome.concluded.activity
                self.facts.links.settle(outcome.concluded)

    def tell(self, one: UsageEvent | ActivityFact) -> None:
        """Put a call or a fact on its topic."""
        if isinstance(one, UsageEvent):
            self.append([one])
        else:
            self.facts.append([one])

    def close(self) -> None:
        super().close()
        self.facts.close()


async def people(store: Store, table: str, org: str) -> dict[tuple[str, str], float]:
    """Return what each user did of each metric, as a rollup says."""
    sql = f"SELECT user_id, metric, toFloat64(sum(value)) AS n FROM {table} WHERE org_id = {{org:String}}"
    found = await rows(store, f"{sql} GROUP BY 1, 2 HAVING n != 0", {"org": org})
    return {(row["user_id"], row["metric"]): row["n"] for row in found}


EVENTS: list[UsageEvent | ActivityFact] = [
    said("req_1", "s1", user_email=ANN, user_id=ANN, device_id=DEVICE),
    fact("lines", "3", session_id="s1", user_id=DEVICE, device_id=DEVICE),
    fact("log", "40", metric="session_tokens", source="cli", session_id="s1", user_id="machine 7"),
    # Another session, of which metrics alone say anything: that its device is the one of somebody known.
    fact("commit", "1", metric="commits", session_id="s2", user_id=DEVICE, device_id=DEVICE),
]
EXPECTED = {(ANN, "lines_of_code"): 3, (ANN, "session_tokens"): 40, (ANN, "commits"): 1}


async def test_activity_is_the_person_s_of_its_session_account_or_device_whatever_came_first(store, tmp_path):
    both = Both(store, tmp_path, "t")
    orders = {f"o{n}": order for n, order in enumerate(itertools.permutations(EVENTS))}
    for step in zip(*orders.values(), strict=True):
        for org, one in zip(orders, step, strict=True):
            copy = type(one)(**{name: getattr(one, name) for name in one.__struct_fields__} | {"org_id": org})
            both.tell(copy)
        await both.settle()
    for org in orders:
        for table in ("activity_15m", "activity_session"):
            assert await people(store, table, org) == EXPECTED, (org, table)
        totals = await sums(store, org)
        assert totals == dict.fromkeys(totals, totals["activity"])
    # Once a second person uses the device, what only the device named is nobody's again.
    both.tell(said("req_9", "s9", user_email=BOB, user_id=BOB, device_id=DEVICE, org_id="o0"))
    await both.settle()
    left = {(DEVICE if metric == "commits" else who, metric): n for (who, metric), n in EXPECTED.items()}
    assert await people(store, "activity_15m", "o0") == left
    both.close()


async def test_calls_of_a_log_are_the_person_s_whom_metrics_alone_name(store, tmp_path):
    both = Both(store, tmp_path, "t")
    both.tell(said("req_1", "s1", source="cli", user_id="machine 7"))
    await both.settle()
    both.tell(fact("lines", "3", session_id="s1", user_id=ANN, user_email=ANN))
    await both.settle()
    both.tell(said("req_2", "s1", source="cli", user_id="machine 7"))
    await both.settle()
    assert {row["user_id"] for row in await live_rows(store, "o")} == {ANN}
    both.close()
