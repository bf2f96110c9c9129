"""The identity of a stream of points: by it repeats are known, and counters that look alike are kept apart.

A stream is what OpenTelemetry says it is: resource, scope, metric and attributes. The attributes are a fixed
list: if it were what is kept today (tags are configured), a running counter would become another series with
a change of settings, and its total would count twice. For the same reason the list must not change.
"""

from __future__ import annotations

from typing import Final

from tokentide_common.identity import derived_call_id
from tokentide_ingest.otlp.telemetry import Attributes, Point

TELLING_APART: Final = (
    *("service.name", "service.instance.id", "host.name", "process.pid"),
    *("session.id", "user.id", "user.email", "user.account_uuid", "user.account_id", "installation.id"),
    *("app.entrypoint", "app.version", "terminal.type", "interactive", "auth_type"),
    *("department", "team.id", "cost_center", "vcs.repository.name"),
    *("model", "type", "query_source", "speed", "effort", "start_type", "agent.name", "skill.name"),
    *("plugin.name", "marketplace.name", "mcp_server.name", "mcp_tool.name"),
    *("tool_name", "function_name", "decision", "source", "language"),
    *("originator", "session_source", "is_git", "is_worktree"),
)


def series_id(point: Point, kind: str) -> str:
    """Return the id of the series that a point belongs to.

    A cumulative point belongs to its stream since its start: after a reset the start is another one. A delta
    point is a series by itself: stream, start and time, which each repeat of it has in common.
    """
    end_ns = point.time_ns if point.temporality == "delta" else 0
    return derived_call_id(
        *("point", point.metric, point.scope, kind, point.temporality, point.start_ns, end_ns),
        *_told(point.resource),
        "/",
        *_told(point.attributes),
    )


def _told(attributes: Attributes) -> list[str]:
    return [f"{key}={attributes[key]}" for key in TELLING_APART if key in attributes]
