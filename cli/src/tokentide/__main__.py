"""Entry point of the `tokentide` command, and the one place where a failure becomes an exit code."""

from __future__ import annotations

import sys

from tokentide.commands import build_app
from tokentide.failures import Failure
from tokentide.terminal import explain


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = build_app()(sys.argv[1:], result_action="return_int_as_exit_code_else_zero")
    except Failure as failure:
        explain(failure)
        code = failure.code
    sys.exit(int(code))


if __name__ == "__main__":
    main()
