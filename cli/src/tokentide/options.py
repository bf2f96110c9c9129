"""The flags that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

IngestUrl = Annotated[
    str | None,
    Parameter(name="--url", env_var="TOKENTIDE_INGEST_URL", help="Address of the ingest server."),
]
QueryUrl = Annotated[
    str | None,
    Parameter(name="--url", env_var="TOKENTIDE_QUERY_URL", help="Address of the query API."),
]
Key = Annotated[
    str | None,
    Parameter(name="--key", env_var="TOKENTIDE_KEY", help="Key for the server."),
]
DataDir = Annotated[
    Path | None,
    Parameter(
        name="--data-dir",
        env_var="TOKENTIDE_DATA_DIR",
        help="Data folder of a system started with `tokentide up`: its address and keys are found there.",
    ),
]
StateDir = Annotated[
    Path | None,
    Parameter(
        name="--state-dir",
        env_var="TOKENTIDE_STATE_DIR",
        help="Folder that remembers what has been sent and this machine's id.",
    ),
]
MachineId = Annotated[
    str | None,
    Parameter(env_var="TOKENTIDE_MACHINE_ID", help="Id of this machine instead of its random one."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Write the result as one line of JSON.")]
Period = Annotated[
    str,
    Parameter(
        help="`today`, `week`, `month`, `year`, `30d`, a day like `2026-11-22`, or a range of days"
        " like `2026-11-01..2026-11-22`, both included."
    ),
]
TimeZone = Annotated[str | None, Parameter(help="Time zone of the days, for example Europe/Berlin.")]
