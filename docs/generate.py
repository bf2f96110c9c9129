"""Write the generated pages of docs/reference from the code: settings, metrics, topics, routes and more.

`make docs` runs it; tests/test_docs.py fails when a page is not what it would write.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from litestar import Litestar
from litestar.routes import HTTPRoute

from tokentide.commands import build_app
from tokentide_common.metrics import METRICS
from tokentide_common.settings import SharedSettings, settings_table
from tokentide_common.topics import TOPICS
from tokentide_query_api.formats import Column, Kind
from tokentide_query_api.reports.catalogue import REPORTS
from tokentide_query_api.reports.report import Report

REFERENCE: Final = Path(__file__).parent / "reference"
SERVICES: Final = ("ingest", "aggregator", "ranker", "query-api", "proxy")
CONSUMERS: Final = ("ingest", "aggregator", "ranker")
HTTP_SERVICES: Final = ("ingest", "query-api")

_NOTE: Final = "<!-- Written by `make docs` from the code: change it there. -->\n\n"
_SETTINGS: Final = """# Settings

Services are configured by environment variables alone. A variable that no part of Tokentide knows, or a value
that cannot be, stops the start, with every mistake listed at once. An empty variable counts as not set.
`python -m tokentide_ingest --check` prints what a service would run with, secrets masked; so do the others.

## Every service

"""
_METRICS: Final = """# Metrics

Every service answers `GET /metrics` in the Prometheus text format. A metric appears once there is something
to say. No label names an organisation, a person or a project.

"""
_TOPICS: Final = """# Topics

The number of partitions is never changed in place: it decides where a call is counted. `tokentide up` uses
fewer. Retention counts from arrival (`message.timestamp.type=LogAppendTime`), so that backfilled history is
not deleted for being old.

"""
_ROUTES: Final = """# Routes

Every service also answers `GET /healthz` (200: alive; else restart it), `GET /readyz` (200: can serve; else
send it nothing) and `GET /metrics`; a service without routes of its own does so on `TOKENTIDE_HEALTH_PORT`.
Errors are problems of RFC 9457: see [errors](errors.md). How to send is in [batches](batches.md), how to ask
in [the query API](query-api.md).
"""
_PROXY_ROUTES: Final = """
## proxy

Whatever leads to a provider goes on to it, whatever the method: see [the proxy](proxy.md).
"""
_REPORTS: Final = """# Reports

`GET /api/v1/reports` lists the named reports with their columns; `GET /api/v1/reports/{name}` answers one,
and so does `tokentide report NAME`: [how to](../how-to/answer-questions-with-reports.md). Period, zone,
filters and formats are those of [the query API](query-api.md); CSV, NDJSON and Parquet have the rows alone.
Every answer has `report`, `from`, `to`, `tz` and `rows`. Reports that tell people apart are not for viewers;
members see their own calls in all of them. Each example is what was really answered for a few calls of
20 November 2026.
"""
_EXAMPLES: Final = """# Example answers

What every route of the query API answers; the named reports are in [reports](reports.md). All of it was
really asked, with an API key or an access token as `Authorization: Bearer …`, for a few calls of 20 November
2026. Lists are cut to their first entry; names in braces, and `…`, stand for what is different each time.
Errors are in [errors](errors.md).
"""
_LINE: Final = 110
_KINDS: Final = {
    Kind.TEXT: "text",
    Kind.COUNT: "whole number",
    Kind.RATIO: "number",
    Kind.USD: "US dollars, an exact decimal in text",
    Kind.AMOUNT: "an exact decimal in text",
    Kind.TIME: "moment, RFC 3339",
    Kind.FLAG: "true or false",
    Kind.NESTED: "list or object",
}
_COMMANDS: Final = """
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | refused or impossible: the same command fails again until something is changed |
| 2 | the command line is not understood |
| 75 | a server is away or busy: the same command can succeed later, nothing is lost |

## Environment

Options that name a variable take their default from it. Besides these, `CLAUDE_CONFIG_DIR` (folders of Claude
Code, separated by commas; without it `$XDG_CONFIG_HOME/claude` and `~/.claude`) says where `push` looks, and
`NO_COLOR` turns colours off.
"""


def settings_struct(service: str) -> type[SharedSettings]:
    """Return the settings struct of a service: the one that its settings module defines."""
    module = importlib.import_module(f"tokentide_{service.replace('-', '_')}.settings")
    defined = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, SharedSettings)
        and value.__module__ == module.__name__
    ]
    (struct,) = defined
    return struct


def application(service: str) -> Litestar:
    """Return a service's application, for its routes; nothing is connected until it is started."""
    module = importlib.import_module(f"tokentide_{service.replace('-', '_')}.app")
    app = module.create_app(settings_struct(service)())
    assert isinstance(app, Litestar)
    return app


def routes(service: str) -> Iterator[tuple[str, str, str]]:
    """Yield methods, path and summary of each route of a service, health routes left out."""
    for route in sorted(application(service).routes, key=lambda r: r.path):
        if isinstance(route, HTTPRoute) and not route.path.startswith(
            ("/healthz", "/readyz", "/metrics", "/schema")
        ):
            for handler in sorted(route.route_handlers, key=lambda h: sorted(map(str, h.http_methods))):
                text = handler.summary or next(iter((handler.fn.__doc__ or "").strip().splitlines()), "")
                methods = sorted({str(m) for m in handler.http_methods} - {"OPTIONS", "HEAD"})
                if methods:
                    listed = ", ".join(f"`{method}`" for method in methods)
                    yield listed, re.sub(r":[a-z]+}", "}", route.path), text


def settings_page() -> str:
    """Every variable of every service."""
    head, rule, *shared = settings_table(SharedSettings).splitlines()
    parts = [_NOTE, _SETTINGS, _table(head, rule, shared)]
    for service in SERVICES:
        own = [
            line for line in settings_table(settings_struct(service)).splitlines()[2:] if line not in shared
        ]
        parts.append(f"\n## {service}\n\n" + _table(head, rule, own))
    return "".join(parts)


def metrics_page() -> str:
    """Every Prometheus metric."""
    rows = [
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.help} |"
        for m in METRICS
    ]
    return _NOTE + _METRICS + _table("| metric | kind | labels | meaning |", "|---|---|---|---|", rows)


def topics_page() -> str:
    """Every topic."""
    rows = [f"| `{t.name}` | {t.carries} | {t.partitions} | {_duration(t.retention_ms)} |" for t in TOPICS]
    return _NOTE + _TOPICS + _table("| topic | carries | partitions | retention |", "|---|---|---|---|", rows)


def routes_page() -> str:
    """Every route of every service that answers HTTP."""
    parts = [_NOTE, _ROUTES]
    for service in HTTP_SERVICES:
        rows = [f"| {methods} | `{path}` | {text} |" for methods, path, text in routes(service)]
        parts.append(f"\n## {service}\n\n" + _table("| method | path | |", "|---|---|---|", rows))
    return "".join([*parts, _PROXY_ROUTES])


def reports_page() -> str:
    """Every named report: its parameters, its columns, an answer."""
    examples = json.loads((REFERENCE / "report-examples.json").read_text("utf-8"))
    return _NOTE + _REPORTS + "".join(_report(report, examples.get(report.name)) for report in REPORTS)


def examples_page() -> str:
    """What every route of the query API answers."""
    examples = json.loads((REFERENCE / "route-examples.json").read_text("utf-8"))
    return _NOTE + _EXAMPLES + "".join(_example(route, example) for route, example in examples.items())


def _example(route: str, example: dict[str, Any]) -> str:
    parts = [f"\n## {route}\n\n"]
    if "none" in example:
        return "".join([*parts, f"No example: {example['none']}.\n"])
    body = f"\n\n{compact(example['body'])}" if example["body"] else ""
    parts.append(f"```http\n{example['request']}{body}\n```\n")
    answer = example["answer"]
    if not answer:
        return "".join([*parts, f"\n{example['status']}, without a body.\n"])
    shown = answer if isinstance(answer, str) else compact(answer)
    return "".join([*parts, f"\n{example['status']}:\n\n```json\n{shown}\n```\n"])


def compact(value: object, indent: str = "") -> str:
    """Return JSON with each object and list on one line that has room for it."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent + line) <= _LINE or not isinstance(value, dict | list):
        return line
    inner = indent + " "
    if isinstance(value, list):
        entries = [inner + compact(entry, inner) for entry in value]
        return "[\n" + ",\n".join(entries) + f"\n{indent}]"
    entries = [f"{inner}{json.dumps(name)}: {compact(entry, inner)}" for name, entry in value.items()]
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


def _report(report: Report, example: dict[str, object] | None) -> str:
    viewers = "Not for viewers. " if report.of_people else ""
    parts = [f"\n## {report.name}\n\n{report.title}. {viewers}`GET /api/v1/reports/{report.name}`\n\n"]
    if report.parameters:
        rows = [
            f"| `{p.name}` | {p.description} | {f'`{p.default}`' if p.default else ''} |"
            for p in report.parameters
        ]
        parts += [_table("| parameter | meaning | default |", "|---|---|---|", rows), "\n"]
    parts.append(_table("| columns | type |", "|---|---|", _columns(report.columns)))
    if example is not None:
        parts += ["\n```json\n", json.dumps(example, indent=1, ensure_ascii=False), "\n```\n"]
    return "".join(parts)


def _columns(columns: Iterable[Column]) -> Iterator[str]:
    """Yield a row for each run of columns of one type, in the order of the answer."""
    for kind, run in groupby(columns, lambda column: column.kind):
        yield f"| {', '.join(f'`{column.name}`' for column in run)} | {_KINDS[kind]} |"


def commands_page() -> str:
    """Every command and flag of the command line."""
    sys.argv[0] = "tokentide"  # some headings name the program that runs, and that is not us
    text = build_app().generate_docs(output_format="markdown", heading_level=1, recursive=True)
    # The anchor that readers on the web get keeps every hyphen of the heading.
    text = text.replace("(#tokentide-install-completion)", "(#tokentide---install-completion)")
    return f"{_NOTE}{text.strip()}\n{_COMMANDS}"


def asyncapi_page(service: str) -> str:
    """What a service reads from and writes to the broker, as an AsyncAPI document."""
    document = importlib.import_module(f"tokentide_{service}.asyncapi").document()
    assert isinstance(document, bytes)
    return document.decode()


PAGES: Final = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "topics.md": topics_page,
    "routes.md": routes_page,
    "examples.md": examples_page,
    "reports.md": reports_page,
    "cli.md": commands_page,
    **{f"asyncapi-{service}.json": partial(asyncapi_page, service) for service in CONSUMERS},
}


def _table(head: str, rule: str, rows: Iterable[str]) -> str:
    listed = list(rows)
    return "\n".join([head, rule, *listed]) + "\n" if listed else "Nothing of its own.\n"


def _duration(milliseconds: int) -> str:
    hours = milliseconds // 3_600_000
    return f"{hours // 24} days" if hours >= 24 else f"{hours} hour"


if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), "utf-8")
