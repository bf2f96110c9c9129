"""What is true of each captured Claude Code run, and what its log cannot know of it.

`manifest.json` is the account of the server that answered: every request with its exact usage. The log lacks
some of these requests; each absence has a reason, and any other one is a mistake of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

RUNS_DIR: Final = Path(__file__).parents[1] / "data" / "claude-code"
RUNS: Final = tuple(sorted(path.name for path in RUNS_DIR.iterdir() if path.is_dir()))

REFUSED: Final = "refused"
"""The provider answered an error: no tokens were used, the client tried again or gave up."""
INTERRUPTED: Final = "interrupted"
"""The stream broke before its end: the client died, or dropped what it had and asked again."""
COMPACTION: Final = "compaction"
"""`/compact` summarises the conversation in requests that are not a part of it."""
HELPER: Final = "helper"
"""A small model names the topic or the title; old versions log none of it."""


class Totals(NamedTuple):
    """The disjoint buckets of one model in one run, by the names of the query API."""

    calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: Totals) -> Totals:
        """Return the sum of both."""
        return Totals(*(a + b for a, b in zip(self, other, strict=True)))


class Missing(NamedTuple):
    """A request that the log does not show as a call."""

    request_id: str
    reason: str


def session_dir(run: str) -> Path:
    """Return the folder to point `CLAUDE_CONFIG_DIR` at."""
    return RUNS_DIR / run / "session"


def manifest(run: str) -> dict[str, Any]:
    """Return the account of a run."""
    return json.loads((RUNS_DIR / run / "manifest.json").read_text())


def truth_for_log(run: str) -> dict[str, Totals]:
    """Return, for each model, the exact totals of the requests that the log contains.

    Where the log holds only a placeholder of the output, the truth is what the log can say: the placeholder.
    """
    placeholders = placeholders_in_log(run)
    truth: dict[str, Totals] = {}
    for request in _logged(run):
        totals = _totals(request["usage"])
        if request["request_id"] in placeholders:
            totals = totals._replace(output_tokens=placeholders[request["request_id"]])
        truth[request["model"]] = truth.get(request["model"], Totals()).plus(totals)
    return truth


def missing_from_log(run: str) -> list[Missing]:
    """Return the requests that the log lacks, each with the reason."""
    logged = {request["request_id"] for request in _logged(run)}
    account = manifest(run)
    compacted = any(line.get("subtype") == "compact_boundary" for line in log_lines(run))
    return [
        Missing(request["request_id"], _reason(request, account, compacted=compacted))
        for request in account["upstream_requests"]
        if request["request_id"] not in logged
    ]


def placeholders_in_log(run: str) -> dict[str, int]:
    """Return the largest output that the log has for each request whose true output it never got."""
    seen = _largest_outputs(run)
    return {
        request["request_id"]: seen[request["request_id"]]
        for request in _logged(run)
        if seen[request["request_id"]] < request["usage"]["output_tokens"]
    }


def log_lines(run: str) -> Iterator[dict[str, Any]]:
    """Yield every line of every session file of a run."""
    for path in sorted(session_dir(run).rglob("*.jsonl")):
        yield from (json.loads(line) for line in path.read_text().split("\n") if line)


def _logged(run: str) -> list[dict[str, Any]]:
    seen = _largest_outputs(run)
    return [
        request
        for request in manifest(run)["upstream_requests"]
        if request.get("usage") and request["request_id"] in seen
    ]


def _largest_outputs(run: str) -> dict[str, int]:
    largest: dict[str, int] = {}
    for line in log_lines(run):
        if line.get("type") != "assistant" or line["message"]["model"] == "<synthetic>":
            continue
        output = line["message"]["usage"]["output_tokens"]
        largest[line["requestId"]] = max(output, largest.get(line["requestId"], 0))
    return largest


def _totals(usage: dict[str, Any]) -> Totals:
    return Totals(
        calls=1,
        input_tokens=usage["input_tokens"],
        cache_read_tokens=usage["cache_read_input_tokens"],
        cache_write_5m_tokens=usage["cache_creation"]["ephemeral_5m_input_tokens"],
        cache_write_1h_tokens=usage["cache_creation"]["ephemeral_1h_input_tokens"],
        output_tokens=usage["output_tokens"],
    )


def _reason(request: dict[str, Any], account: dict[str, Any], *, compacted: bool) -> str:
    if request["status"] != 200:
        return REFUSED
    if not request["completed"]:
        return INTERRUPTED
    if compacted:
        return COMPACTION
    if request["script"] == "none":
        return HELPER
    raise AssertionError(
        f"{request['request_id']} of {account['run']} is missing from the log without a reason"
    )
