"""Compile what each request of the proxy goes through: the same sources, by mypyc, for less CPU (ADR 44).

    python services/proxy/compile.py --into FOLDER    # for trying: FOLDER goes on PYTHONPATH
    python services/proxy/compile.py                  # beside the sources of the installed package

It needs a C compiler and what the group `compile` of the workspace names. Python takes a compiled module
before its source, so that nothing else changes; to go back, delete the `.so` files.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

# What is left out: what no request waits for, what mypyc cannot compile (async generators), and whatever
# defines a `msgspec.Struct`, since mypyc drops the options of a class (`frozen`, `gc`) without a word.
COMPILED = (
    "admission",
    "answer_delivery",
    "answer_parser",
    "attribution",
    "budget_wall",
    "client_connection",
    "client_cycle",
    "connection",
    "drops",
    "exchanges",
    "familiar_head",
    "forwarding",
    "headers",
    "limit_headers",
    "observation",
    "observed",
    "outcome",
    "outgoing",
    "passage",
    "pool",
    "recorder",
    "request_plan",
    "response",
    "stream_usage",
    "tap",
    "upstream_client",
    "upstream_request",
    "usage/answer",
    "usage/anthropic",
    "usage/json_body",
    "usage/reader",
    "usage/sse",
    "whom",
)
_PACKAGE = "tokentide_proxy"


def main() -> None:
    """Compile, and say where the result is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, help="a folder for a compiled copy of the package")
    parser.add_argument("--check", action="store_true", help="say what is missing for it, and do no more")
    parser.add_argument("--unoptimized", action="store_true", help="in half the time, to see if it works")
    options = parser.parse_args()
    missing = what_is_missing()
    if missing or options.check:
        sys.exit(missing or None)
    into: Path | None = options.into
    sources = _sources()
    if into is None and not _is_installed(sources):
        sys.exit("these are sources that may be edited, and would be no more what is run: use --into")
    if into is not None:
        into = into.resolve()  # mypyc wants to be run elsewhere
    print(f"compiling {len(COMPILED)} modules of {_PACKAGE}: about a minute", flush=True)  # noqa: T201 -- it is a command
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: what lies among a system's packages is none of the sources that mypy reads.
        copy = Path(scratch) / "copy"
        shutil.copytree(sources, copy / _PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        compile_package(copy, Path(scratch), optimized=not options.unoptimized)
        if into is None:
            for stale in [*sources.rglob("*.so"), *sources.parent.glob(f"{_PACKAGE}__mypyc*.so")]:
                stale.unlink()  # of an earlier version, whose modules may have been others
        wanted = "*" if into else "*.so"
        for made in copy.rglob(wanted):
            if made.is_file():
                kept = (into or sources.parent) / made.relative_to(copy)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(made, kept)
    print("compiled")  # noqa: T201 -- it is a command


def what_is_missing() -> str:
    """Return what compiling needs and is not there, with where it comes from; "" if all is there."""
    if shutil.which(os.environ.get("CC", "cc")) is None:
        return "no C compiler: install one (Debian: apt-get install gcc libc6-dev), or name it with CC"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are missing: install them (Debian: apt-get install python3-dev)"
    if any(importlib.util.find_spec(name) is None for name in ("mypyc", "setuptools")):
        return "mypyc is missing: see docs/reference/proxy.md#compiled for how to have it on PYTHONPATH"
    return ""


def compile_package(root: Path, scratch: Path, *, optimized: bool = True) -> None:
    """Compile the package in the folder `root`, with whatever is made on the way in `scratch`."""
    # Here, since only whoever compiles has them.
    import setuptools  # noqa: PLC0415
    from mypyc.build import mypycify  # noqa: PLC0415

    os.chdir(root)
    modules = [f"{_PACKAGE}/{name}.py" for name in COMPILED]
    # Types are judged elsewhere, with all that this needs; whoever compiles need not have it.
    options = ["--ignore-missing-imports", "--cache-dir", str(scratch / "types")]
    extensions = mypycify(
        [*options, *modules],
        opt_level="3" if optimized else "0",
        debug_level="0",
        target_dir=str(scratch),
        group_name=_PACKAGE,
    )
    folders = ["--build-temp", str(scratch / "temp"), "--build-lib", str(scratch / "lib")]
    setuptools.setup(
        name=_PACKAGE,
        packages=[],
        ext_modules=extensions,
        script_args=["--quiet", "build_ext", "--inplace", *folders],
    )


def _sources() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        sys.exit(f"{_PACKAGE} is not installed in this environment")
    return Path(found.origin).parent


def _is_installed(folder: Path) -> bool:
    return "site-packages" in folder.parts


if __name__ == "__main__":
    main()
