"""Ask whether any dependency that we ship has a known vulnerability: `make audit`.

What is asked about is the lock file, without what only tests and builds need. Fails on a vulnerability. Where
no service of vulnerabilities can be reached nothing was audited, and that is said as loudly as it can be.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

SERVICES = ("pypi", "osv")
EXPORT = "export --frozen --no-dev --no-emit-workspace --no-header --quiet"
NOT_AUDITED = """
############################################################################
#  DEPENDENCIES WERE NOT AUDITED: no service of vulnerabilities answers.   #
#  Run `make audit` again where https://pypi.org can be reached.           #
############################################################################"""


class Vulnerability(msgspec.Struct):
    """What is known to be wrong with a version."""

    id: str
    fix_versions: list[str] = []


class Dependency(msgspec.Struct):
    """What an audit says of one package."""

    name: str
    version: str = ""
    vulns: list[Vulnerability] = []
    skip_reason: str = ""


class Report(msgspec.Struct):
    """What pip-audit says."""

    dependencies: list[Dependency]


def judged(report: Report) -> tuple[bool, str]:
    """Return whether all is well, and what to say of it."""
    audited = [d for d in report.dependencies if not d.skip_reason]
    if not audited:
        return True, NOT_AUDITED
    found = [
        f"{d.name} {d.version}: {v.id}, mended in {', '.join(v.fix_versions) or 'no version'}"
        for d in audited
        for v in d.vulns
    ]
    skipped = [d.name for d in report.dependencies if d.skip_reason]
    said = [*found, *([f"not audited, unknown to the service: {', '.join(skipped)}"] if skipped else [])]
    return not found, "\n".join([*said, f"{len(audited)} dependencies audited, {len(found)} vulnerabilities"])


def asked(requirements: Path, service: str) -> Report:
    """Return what a service says of the requirements; nothing where it cannot be reached."""
    flags = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", "--timeout=10"]
    command = [sys.executable, "-m", "pip_audit", "-r", str(requirements), "-s", service, *flags]
    done = subprocess.run(command, capture_output=True, check=False)
    try:
        return msgspec.json.decode(done.stdout, type=Report)
    except msgspec.DecodeError:
        return Report([])


def main(uv: str) -> int:
    """Audit with the first service that knows anything."""
    locked = subprocess.run([uv, *EXPORT.split()], capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_bytes(locked)
        for service in SERVICES:
            well, text = judged(asked(requirements, service))
            if text != NOT_AUDITED:
                break
    print(text, file=sys.stderr)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
