"""The proxy as images have it, its hot modules compiled, does what its sources do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.proxy_compiling import SCRIPT, compiling

ROOT = Path(__file__).resolve().parents[2]
# What passes through what is compiled, from the socket to the event. All else tests it as sources.
TESTS = (
    *(f"tests/integration/test_proxy_{name}.py" for name in ("events", "exactness", "streams")),
    *(f"tests/unit/proxy/test_{name}.py" for name in ("admission", "outgoing", "recorder", "usage_captures")),
)
MISSING = compiling().what_is_missing()


@pytest.mark.skipif(bool(MISSING), reason=f"the compiled proxy is not tested: {MISSING}")
@pytest.mark.timeout(600)
def test_what_is_compiled_passes_the_tests_of_its_sources(tmp_path: Path) -> None:
    compiling = [sys.executable, str(SCRIPT), "--unoptimized", "--into", str(tmp_path)]
    done = subprocess.run(compiling, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    where = [sys.executable, "-c", "import tokentide_proxy.forwarding as module; print(module.__file__)"]
    loaded = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip().endswith((".so", ".pyd"))
    assert loaded.stdout.startswith(str(tmp_path))
    asking = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(asking, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[0-9]{3,} passed", done.stdout, re.M)
