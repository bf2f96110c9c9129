"""Entry point of the `tokentide` command, and the one place where a failure becomes an exit code."""

from __future__ import annotations

import os
import sys

from tokentide.commands import build_app
from tokentide.failures import Exit, Failure
from tokentide.terminal import explain


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = build_app()(sys.argv[1:], result_action="return_int_as_exit_code_else_zero")
        sys.stdout.flush()
    except Failure as failure:
        explain(failure)
        code = failure.code
    except BrokenPipeError:
        # Whoever read has enough, as `head` has; what is still to be flushed at the end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.FAILED
    except OSError as error:
        explain(Failure(str(error), hint="may you write there, and is there room on the disk?"))
        code = Exit.FAILED
    sys.exit(int(code))


if __name__ == "__main__":
    main()
