"""Measure every performance target, one after the other, and print one table.

python benchmarks/run.py                about 25 minutes on 2 cores
python benchmarks/run.py --full         at the sizes of the targets: hours
python benchmarks/run.py --only freshness,queries
python benchmarks/run.py --json
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys

import msgspec
import psutil

import parts
import report

# benchmark → (arguments by default, arguments with --full); a number of events goes in by --events
BENCHMARKS: dict[str, tuple[list[str], list[str]]] = {
    "aggregator": ([], ["--full"]),
    "ingest": ([], []),
    "otlp_decode": ([], []),
    "otlp": ([], []),
    "otlp_collector": ([], []),
    "queries": ([], ["--full"]),
    "reports": ([], ["--full"]),
    "keys": ([], ["--keys", "1000000"]),
    "freshness": ([], ["--seconds", "60"]),
    "proxy": ([], ["--rounds", "4"]),
    "memory": ([], []),
    "pricing": ([], []),
}
TAKES_EVENTS = ("aggregator", "queries", "reports", "memory")


def run(name: str, arguments: list[str]) -> list[report.Line]:
    """Run one benchmark in a process of its own; one that breaks is a line that says so."""
    print(f"benchmarks/{name}.py {' '.join(arguments)}", file=sys.stderr, flush=True)
    command = [sys.executable, str(parts.ROOT / "benchmarks" / f"{name}.py"), *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return [report.Line(name, f"did not finish (exit code {done.returncode})", 0.0, goal=1.0)]
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=list[report.Line])


def machine() -> str:
    """Return what the figures were measured on."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {python}, load {load:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="names, separated by commas")
    parser.add_argument("--events", type=int, help="so many events for each benchmark that takes a number")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    lines = []
    for name in args.only.split(","):
        arguments = [*BENCHMARKS[name][args.full]]
        if args.events and name in TAKES_EVENTS:
            arguments += ["--events", str(args.events)]
        lines += run(name, arguments)
    if not args.json:
        print(machine())
    report.show(lines, as_json=args.json)


if __name__ == "__main__":
    main()
