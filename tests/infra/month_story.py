"""Who saw each call of the month, and in which order what they say arrives.

month = Month(seed=7)
month.rows      the record of every call that must be counted, as plain dicts
month.events    what all sources say, in order of arrival: repeats, forks, copies and lateness included
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any, Final

from infra.activity_rows import activity
from infra.month_calls import MILLISECOND, Told, Turn, conversations, recorded
from infra.month_people import FIRST, PEOPLE, Person, Row
from tokentide_common.events import UsageEvent

_MACHINE_FACTS: Final = ("user_id", "user_email", "team", "department")
_OF_LINK: Final = ("user_id", "user_email", "account_id", "device_id", "team", "department", "cost_center")
_TRUE: Final = (
    "provider", "model", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
)  # fmt: skip
_SPLIT: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens")
_ANSWER: Final = ("stop_reason", "service_tier", "speed", "inference_geo", "web_search_requests", *_SPLIT)


def activity_of(seed: int) -> list[Row]:
    """Return what some people did in the month besides calling, and one who never called, by quarter."""
    rng, begun = random.Random(seed), FIRST.replace(minute=0)
    what: list[Told] = [
        {"metric": "commits"}, {"metric": "pull_requests"},
        *({"metric": "lines_of_code", "kind": kind} for kind in ("added", "removed")),
        *({"metric": "active_time_s", "kind": kind} for kind in ("user", "cli")),
        *({"metric": "edit_decisions", "decision": said} for said in ("accept", "reject")),
    ]  # fmt: skip
    return [
        activity(value=rng.randrange(1, 9), bucket=begun + timedelta(minutes=15 * rng.randrange(32 * 96)),
                 user_id=user, org_id=org, **rng.choice(what))
        for org, user in (("org_a", "ann"), ("org_a", "bob"), ("org_a", "idle"), ("org_b", "gus"))
        for _ in range(40)
    ]  # fmt: skip


class _Call:
    """A call in the making: what is said of it, by speaker, under the id that it is counted by."""

    def __init__(self, org_id: str, call_id: str, session_id: str) -> None:
        self.org_id, self.call_id, self.session_id = org_id, call_id, session_id
        self.said: dict[str, Told] = {}


class Month:
    """All that happens in the month, from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._arrivals: list[tuple[datetime, int, UsageEvent]] = []
        self._calls: list[_Call] = []
        self._ids: list[str] = []
        for person in PEOPLE:
            way = getattr(self, f"_{person.way.replace('-', '_')}")
            for number, (began, turns) in enumerate(conversations(self._rng, person)):
                # One session id is in use in both organisations.
                mine = f"{person.way if person.way != 'walk-in' else 'oauth'}-session-{number}"
                session = {"session_id": mine, "session_started_at": began - MILLISECOND}
                place = {**session, "project": self._rng.choice(("/p/one", "p,two", "")), "number": number}
                for turn in turns:
                    way(person, place, turn)
        self._conclude()
        self.rows: list[Row] = [recorded(c.org_id, c.call_id, c.said) for c in self._calls]
        self.events = [event for *_, event in sorted(self._arrivals, key=lambda one: one[:2])]

    # How each person's calls are seen.

    def _oauth(self, person: Person, place: Told, turn: Turn) -> None:
        """Claude Code, signed in: its log and its telemetry; now and then one of them is lost."""
        if self._chance(0.02):
            failed = self._call(person, place)
            self._telemetry(failed, person, turn, status="error", http_status=500, error_type="api_error")
        call = self._call(person, place)
        seen = self._rng.random()
        if seen > 0.1:
            self._telemetry(call, person, turn)
        if seen < 0.9:
            self._log(call, person, place, turn, only_begun=self._chance(0.1))

    def _proxied(self, person: Person, place: Told, turn: Turn) -> None:
        """Claude Code through the proxy: overloads are tried again, some streams break; and its log."""
        for attempt in range(self._rng.choice((0,) * 12 + (1, 3))):
            at = turn.at - timedelta(seconds=20 - attempt)
            overload = turn._replace(at=at, lasted_ms=120 + attempt)
            refused = {"status": "error", "http_status": 529, "error_type": "overloaded_error"}
            self._proxy(self._call(person, place), person, overload, **refused)
        call = self._call(person, place)
        seen = self._rng.random()
        if seen < 0.05:
            self._broken(call, person, place, turn)
        elif seen < 0.1:
            self._log(call, person, place, turn)
        else:
            self._proxy(call, person, turn)
            self._log(call, person, place, turn, only_begun=self._chance(0.1))

    def _codex(self, person: Person, place: Told, turn: Turn) -> None:
        """Codex: telemetry that names no call, and, mostly, the proxy, which knows its id."""
        by_proxy = self._chance(0.7)
        call = self._call(person, place, "resp_" if by_proxy else "x_otlp_")
        if by_proxy:
            self._proxy(call, person, turn)
        if not by_proxy or self._chance(0.9):
            # It tells when a call ended, and not how long it took.
            self._telemetry(call, person, turn, apart=by_proxy, occurred_at=turn.ended, duration_ms=0,
                            reasoning_tokens=turn.true["reasoning_tokens"], speed="", effort="")  # fmt: skip

    def _gemini(self, person: Person, place: Told, turn: Turn) -> None:
        """Gemini CLI: one event has the tokens, another one the id of the answer."""
        call = self._call(person, place, f"gemini-answer-{self._rng.getrandbits(64):016x}-")
        if self._chance(0.5):
            self._proxy(call, person, turn)
        told = {"reasoning_tokens": turn.true["reasoning_tokens"], "http_status": 200}
        alias = self._telemetry(call, person, turn, apart=True, speed="", effort="", **told)
        answer = {"provider": "google", "model": turn.true["model"], "client": "gemini-cli"}
        self._arrive(
            turn.ended,
            {"source": "otlp", "call_id": alias, "same_as": call.call_id, "org_id": person.org_id,
             "occurred_at": turn.ended, **answer},
        )  # fmt: skip

    def _api(self, person: Person, place: Told, turn: Turn) -> None:
        """A client of its own that sends what it did, some of it twice."""
        call = self._call(person, place, "resp_")
        told = {name: turn.true[name] for name in (*_TRUE, *_ANSWER)}
        tags = self._rng.choice(({"env": "prod"}, {"env": "dev", "a b": "c"}, {}))
        self._say(call, "api", turn.at, {
            **told, "user_id": person.user_id, "client": "batch-job", "occurred_at": turn.at, "tags": tags,
            "session_id": place["session_id"] if self._chance(0.8) else "", "project": place["project"],
        })  # fmt: skip

    def _build(self, person: Person, place: Told, turn: Turn) -> None:
        """A log on a machine that is nobody's own."""
        self._log(self._call(person, place), person, place, turn, only_begun=self._chance(0.3))

    def _shared(self, person: Person, place: Told, turn: Turn) -> None:
        """Telemetry under one key for all, logs of machines without a user; first, an old client."""
        old = place["number"] < 8
        seen = self._rng.random()
        by_log = seen < 0.9
        # Old telemetry names no request: what has no log stays under an id of its own.
        call = self._call(person, place, "req_" if by_log or not old else "x_otlp_")
        if by_log:
            self._log(call, person, place, turn, only_begun=not old and self._chance(0.1))
        if seen > 0.15:
            named = {"user_id": person.email}
            self._telemetry(call, person, turn, apart=old and by_log, **named)

    def _device(self, person: Person, place: Told, turn: Turn) -> None:
        """Telemetry that names but the installation, and a log whose machine is somebody's."""
        call = self._call(person, place)
        by_log = self._chance(0.8)
        if by_log:
            self._log(call, person, place, turn)
        if not by_log or self._chance(0.7):
            self._telemetry(call, person, turn, user_id=person.secret("device"), user_email="", account_id="")

    def _walk_in(self, person: Person, place: Told, turn: Turn) -> None:
        """The proxy alone; some gateway hands out ids that another organisation has too."""
        call = self._call(person, place)
        if self._chance(0.1):
            taken = {c.call_id for c in self._calls if c.org_id == person.org_id}
            call.call_id = self._rng.choice([i for i in self._ids if i not in taken] or [call.call_id])
        self._proxy(call, person, turn)

    # What each source says.

    def _log(self, call: _Call, person: Person, place: Told, turn: Turn, *, only_begun: bool = False) -> None:
        """Lines of Claude Code's log: one for each part of an answer, the last of which has all."""
        machine = self._rng.choice(person.machines) if place["number"] % 5 == 0 else person.machines[0]
        line = {name: turn.true[name] for name in (*_TRUE, *_ANSWER, "effort", "agent", "is_sidechain",
                                                   "prompt_id", "reasoning_tokens")}  # fmt: skip
        line |= {name: value for name, value in self._of_key(person).items() if name in _MACHINE_FACTS}
        line |= {
            "session_id": place["session_id"],
            "session_started_at": place["session_started_at"],
            "project": place["project"],
            "occurred_at": turn.at + (turn.lasted_ms - turn.lasted_ms // 3) * MILLISECOND,
            "client": "claude-code",
            "git_branch": "main",
            "machine_id": machine,
            "key_id": f"key of {machine}",
            "tags": {"entrypoint": "cli"},
        }
        if self._chance(0.05) and line["cache_write_5m_tokens"] > 50:
            line["cache_write_5m_tokens"] -= 50  # the total is more than its parts where tools ran
        begun = {**line, "output_tokens": min(3, line["output_tokens"]), "reasoning_tokens": 0}
        begun["stop_reason"] = ""
        seen_at = line["occurred_at"] + timedelta(seconds=self._rng.randrange(1, 50))
        lines = [begun] if only_begun else [*[begun] * self._rng.randrange(2), line]
        for part in lines:
            self._say(call, "cli", seen_at, part)
        self._copies(call, person, lines[-1], seen_at)

    def _copies(self, call: _Call, person: Person, line: Told, seen_at: datetime) -> None:
        """The same line in a forked session, and in a log that was copied to another machine."""
        if self._chance(0.08):
            forked = {"session_id": f"{line['session_id']}-fork", "project": "/p/fork"}
            begun = line["session_started_at"] + timedelta(hours=3)
            self._say(call, "", seen_at + timedelta(hours=3), {**line, **forked, "session_started_at": begun})
        if self._chance(0.04):
            elsewhere = {"machine_id": "new-laptop", "key_id": "key of new-laptop", "user_id": "ann-too"}
            self._say(
                call, "", seen_at + timedelta(days=1), {**line, **(elsewhere if person.user_id else {})}
            )

    def _telemetry(self, call: _Call, person: Person, turn: Turn, *, apart: bool = False, **more: Any) -> str:
        """An event of the client; `apart`: under an id of its own, which is returned."""
        failed = more.get("status") == "error"
        told = {name: turn.true[name] for name in ("provider", "model", "effort", "agent", "is_sidechain")}
        told |= {} if failed else {name: turn.true[name] for name in _TRUE}
        if self._chance(0.3) and not failed:
            told |= {name: turn.true[name] for name in _SPLIT}
        known = {name: value for name, value in person.facts.items() if name != "department"}
        told |= {
            **known,
            "user_id": person.user_id or person.email,
            "user_email": person.email.casefold(),
            "account_id": person.secret("account")[:36],
            "device_id": person.secret("device"),
            "key_id": f"telemetry of {person.user_id or person.org_id}",
            "client": {"codex": "codex", "gemini": "gemini-cli"}.get(person.way, "claude-code"),
            "session_id": call.session_id,
            "prompt_id": turn.true["prompt_id"],
            "query_source": "repl_main_thread",
            "speed": self._rng.choice((turn.true["speed"], "fast")),  # what was asked for
            "occurred_at": turn.at + 5 * MILLISECOND,
            "duration_ms": turn.lasted_ms - 5,
            "ttft_ms": turn.true["ttft_ms"] + 5,
            "retry_attempt": turn.lasted_ms % 2,
            **({} if failed else {"reported_nano": self._rng.randrange(10**9)}),
            **more,
        }
        own = f"x_otlp_{self._rng.getrandbits(96):024x}" if apart else ""
        self._say(call, "otlp", turn.ended, told, under=own)
        return own

    def _proxy(self, call: _Call, person: Person, turn: Turn, **more: Any) -> None:
        """An exchange that the proxy saw end."""
        failed = more.get("status") == "error"
        told = {name: turn.true[name] for name in ("model", "provider")}
        told |= {} if failed else {
            name: turn.true[name] for name in (*_TRUE, *_ANSWER, "reasoning_tokens", "ttft_ms")
        }  # fmt: skip
        told |= self._of_key(person)
        told |= {
            "client": "codex"
            if person.way == "codex"
            else "gemini-cli"
            if person.way == "gemini"
            else "claude-code",
            "session_id": call.session_id,
            "agent": turn.true["agent"],
            "occurred_at": turn.at,
            "duration_ms": turn.lasted_ms,
            "retry_attempt": turn.lasted_ms % 3,
            "http_status": 200,
            "tags": {"env": "prod"},
            **more,
        }
        broken = told.get("status") == "aborted"
        self._say(call, "proxy-aborted" if broken else "proxy", turn.at, told)

    def _broken(self, call: _Call, person: Person, place: Told, turn: Turn) -> None:
        """A stream that broke off at the proxy; the log has it all, its start, or nothing."""
        part = {"output_tokens": turn.true["output_tokens"] // 2, "reasoning_tokens": 0, "stop_reason": ""}
        self._proxy(call, person, turn, status="aborted", error_type="client_disconnected", **part)
        if self._chance(0.3):
            self._log(call, person, place, turn)

    # How it arrives.

    def _call(self, person: Person, place: Told, prefix: str = "req_") -> _Call:
        call = _Call(person.org_id, f"{prefix}{self._rng.getrandbits(80):020x}", place["session_id"])
        self._calls.append(call)
        if person.way == "proxied":
            self._ids.append(call.call_id)
        return call

    def _say(self, call: _Call, who: str, at: datetime, told: Told, *, under: str = "") -> None:
        """Let somebody say something of a call; `who` is "" where it must change nothing."""
        source = who.split("-", maxsplit=1)[0] or "cli"
        told = {**told, "source": source, "observed_at": at}
        if who:
            call.said[who] = {**call.said.get(who, {}), **told}
        said = {name: value for name, value in told.items() if name != "reported_nano"}
        if told.get("reported_nano"):
            said["reported_cost_usd"] = (
                f"{told['reported_nano'] // 10**9}.{told['reported_nano'] % 10**9:09d}"
            )
        self._arrive(at, {**said, "call_id": under or call.call_id, "org_id": call.org_id})

    def _arrive(self, at: datetime, event: Told) -> None:
        """Put an event on its way: mostly soon, sometimes days late, sometimes twice."""
        for _ in range(2 if self._chance(0.05) else 1):
            late_s = self._rng.choices((self._rng.uniform(1, 60), self._rng.uniform(1e4, 5e5)), (92, 8))[0]
            arrives = at + timedelta(seconds=late_s)
            self._arrivals.append((arrives, len(self._arrivals), UsageEvent(**event)))

    def _conclude(self) -> None:
        """Give calls that nobody named the person whom telemetry named for their session."""
        people: dict[tuple[str, str], Told] = {}
        for call in self._calls:
            for who in ("otlp", "proxy", "proxy-aborted"):
                if (said := call.said.get(who)) and said.get("user_email"):
                    known = people.setdefault((call.org_id, call.session_id), {})
                    known |= {name: said[name] for name in _OF_LINK if said.get(name)}
        for call in self._calls:
            told = call.said.values()
            unnamed = not any(one.get("user_email") for one in told if one["source"] in ("otlp", "proxy"))
            person = people.get((call.org_id, call.session_id))
            if unnamed and person and any(one.get("session_id") for one in told):
                call.said["link"] = {**person, "source": "link"}

    def _of_key(self, person: Person) -> Told:
        known = {name: person.facts.get(name, "") for name in ("team", "department")}
        return {"user_id": person.user_id, "user_email": person.email, "key_id": f"key of {person.user_id}",
                **known}  # fmt: skip

    def _chance(self, part: float) -> bool:
        return self._rng.random() < part
