"""Documentation that cannot fall behind: generated pages are fresh, and the others name all that there is."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args
from urllib.parse import unquote

import msgspec
import pytest

from tokentide.commands import build_app
from tokentide_common import problem_answers
from tokentide_common.activity import ActivityFact
from tokentide_common.events import UsageEvent
from tokentide_common.limit_facts import LimitFact
from tokentide_common.settings import variable
from tokentide_query_api.accounts.audit import Action
from tokentide_query_api.activity_words import ACTIVITY_DIMENSIONS, ACTIVITY_METRICS
from tokentide_query_api.dimensions import DIMENSIONS, METRICS
from tokentide_query_api.periods import NAMED_PERIODS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(*names: str) -> str:
    return "\n".join((REFERENCE / name).read_text("utf-8") for name in names)


def sources() -> list[Path]:
    return sorted(
        [
            *(ROOT / "libs/common/src").rglob("*.py"),
            *(ROOT / "services").glob("*/src/**/*.py"),
            *(ROOT / "cli/src").rglob("*.py"),
        ]
    )


def error_codes() -> set[str]:
    """Every literal `code` of a service: class attributes and `code=` arguments."""
    found = {code for code, _ in problem_answers.LITESTAR.values()}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            value: ast.expr | None = None
            if isinstance(node, ast.keyword) and node.arg == "code":
                value = node.value
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
                    value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                found.add(value.value)
    return found


@pytest.mark.parametrize(
    "name",
    [
        *("settings.md", "metrics.md", "topics.md", "routes.md", "reports.md", "cli.md"),
        *("asyncapi-ingest.json", "asyncapi-aggregator.json", "asyncapi-ranker.json"),
    ],
)
def test_generated_pages_are_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text("utf-8") == generator().PAGES[name](), "run `make docs`"


def test_every_setting_of_every_service_is_documented() -> None:
    page = text_of("settings.md")
    missing = [
        variable(field.name)
        for service in generator().SERVICES
        for field in msgspec.structs.fields(generator().settings_struct(service))
        if f"`{variable(field.name)}`" not in page
    ]
    assert missing == []


def test_every_setting_says_what_it_means() -> None:
    rows = [line for line in text_of("settings.md").splitlines() if line.startswith("| `TOKENTIDE_")]
    assert rows
    assert [row for row in rows if len(re.split(r"(?<!\\)\|", row)[4].strip()) < 10] == []


def test_every_route_says_what_it_is_for() -> None:
    rows = [line for line in text_of("routes.md").splitlines() if line.startswith("| `")]
    assert [row for row in rows if len(row.split("|")[3].strip()) < 10] == []
    for path in ("/api/v1/cli/batches", "/api/v1/cli/health", "/api/v1/usage/summary", "/api/v1/rankings"):
        assert f"`{path}`" in text_of("routes.md")


def test_the_handwritten_pages_name_every_route() -> None:
    page = text_of(
        "authentication.md", "batches.md", "otlp.md", "query-api.md", "money.md", "reports.md", "accounts.md"
    )
    missing = [
        path
        for service in ("ingest", "query-api")
        for _, path, _ in generator().routes(service)
        if path != "/" and path not in page
    ]
    assert missing == []


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "push",
        "stats",
        "report",
        "blocks",
        "statusline",
        "export",
        "doctor",
        "mcp",
        "coverage",
        "provider-key",
        "provider-key set",
    ],
)
def test_every_command_is_documented(command: str) -> None:
    assert f"## tokentide {command}\n" in text_of("cli.md")


def test_every_command_that_a_page_shows_is_understood() -> None:
    shown = 0
    for page in PAGES:
        blocks = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.S)
        lines = "\n".join(blocks).replace("\\\n", " ")
        for line in re.findall(r"^(?:\.venv/bin/)?tokentide (.*)$", lines, re.M):
            words = shlex.split(re.split("[|>]", line)[0], comments=True)
            build_app().parse_args(words, exit_on_error=False, print_error=False)
            shown += 1
    assert shown > 20


def test_error_codes_and_their_page_are_the_same_set() -> None:
    page = text_of("errors.md")
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.M))
    assert listed == error_codes()


def test_actions_of_the_audit_log_and_their_table_are_the_same_set() -> None:
    table = text_of("accounts.md").partition("| `action` | |")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table)) == set(get_args(Action))


def test_every_field_of_an_event_is_documented() -> None:
    listed = set(re.findall(r"`([a-z0-9_]+)`", text_of("usage-event.md")))
    assert {field.name for field in msgspec.structs.fields(UsageEvent)} - listed == set()


def test_every_dimension_measure_and_named_period_is_documented() -> None:
    listed = set(re.findall(r"`([a-z0-9_]+)`", text_of("query-api.md")))
    assert ({*DIMENSIONS, *METRICS, *NAMED_PERIODS}) - listed == set()


def test_every_metric_dimension_and_field_of_activity_is_documented() -> None:
    listed = set(re.findall(r"`([a-z0-9_]+)`", text_of("activity.md")))
    assert {field.name for field in msgspec.structs.fields(ActivityFact)} - listed == set()
    assert set(ACTIVITY_METRICS) - listed == set()
    asked = text_of("query-api.md").partition("## `GET /api/v1/activity`")[2].partition("\n## ")[0]
    assert set(ACTIVITY_DIMENSIONS) - set(re.findall(r"`([a-z0-9_]+)`", asked)) == set()


def test_every_field_of_a_limit_is_documented() -> None:
    listed = set(re.findall(r"`([a-z0-9_]+)`", text_of("limits.md")))
    assert {field.name for field in msgspec.structs.fields(LimitFact)} - listed == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        place = page if target == "" else (page.parent / target).resolve()
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [
            (page.parent / link.partition("#")[0]).resolve()
            for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
            if not re.match(r"[a-z]+:|#", link)
        ]
    assert {page.relative_to(ROOT) for page in PAGES} - {page.relative_to(ROOT) for page in seen} == set()


def test_every_decision_is_listed_in_order_and_fits_on_a_screen() -> None:
    template, *decisions = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    assert template == "0000-template.md"
    index = (DOCS / "decisions/README.md").read_text("utf-8")
    assert re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", index, re.M) == decisions
    for name in decisions:
        text = (DOCS / "decisions" / name).read_text("utf-8")
        title = re.match(r"# (\d+)[.:] ", text)
        assert title, name
        assert int(title[1]) == int(name[:4]), name
        assert "\n## Decision\n" in text, name
        assert len(text.splitlines()) <= 80, name


def test_the_readme_names_two_commands_and_make_has_them() -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S))
    assert re.findall(r"^make (\w+)", blocks, re.M) == ["up", "test"]


def test_make_lists_what_it_can_do() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"up", "test", "check", "bench", "clean"} <= set(re.findall(r"^  make (\w+)", listed, re.M))
    assert len(listed.splitlines()) <= 10, "little more than that"


def test_images_carry_the_version_of_the_packages() -> None:
    version = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    images = re.findall(r"image: tokentide/\S+:(\S+)", (ROOT / "compose.yaml").read_text("utf-8"))
    assert set(images) == set(version)
