"""`tokentide doctor`: what is set up, what is not, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from tokentide.client_findings import client_findings
from tokentide.failures import Exit
from tokentide.finding import MARKS
from tokentide.options import DataDir, Json
from tokentide.server_findings import server_findings
from tokentide.terminal import results, write_json


def doctor(*, as_json: Json = False, data_dir: DataDir = None) -> int:
    """Check settings, servers, keys, the clock, Claude Code's set-up, and when each source was heard last.

    Nothing is changed. Ends with 1 when a check failed; warnings and notes are none.
    """
    findings = [*client_findings(os.environ, Path.home()), *server_findings(data_dir)]
    if as_json:
        write_json({"findings": findings})
    else:
        table = Table(show_header=False)
        for column in ("check", "state", "says", "do"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            says, do = escape(finding.says), escape(finding.do)
            table.add_row(finding.check, MARKS[finding.state], says, do)
        results().print(table)
    return Exit.FAILED if any(finding.state == "failed" for finding in findings) else Exit.OK
