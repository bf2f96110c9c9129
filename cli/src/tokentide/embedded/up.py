"""`tokentide up`: the whole system on this machine, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

from cyclopts import Parameter, validators

from tokentide.connection import default_data_dir
from tokentide.embedded.data_folder import DataFolder
from tokentide.embedded.ports import Ports, refuse_taken
from tokentide.embedded.system import Ready, embedded_system
from tokentide.failures import Failure
from tokentide.options import DataDir, Json
from tokentide.periods import local_zone
from tokentide.terminal import notes, results, write_json
from tokentide_common import logging
from tokentide_common.errors import TokentideError
from tokentide_common.serving import stop_requested

_PORT = validators.Number(gte=0, lte=65535)


def up(
    *,
    ingest_port: Annotated[
        int, Parameter(validator=_PORT, help="Port of the ingest service; 0: any free one.")
    ] = 4318,
    otlp_grpc_port: Annotated[
        int, Parameter(validator=_PORT, help="Port for OTLP over gRPC; 0: any free one.")
    ] = 4317,
    proxy_port: Annotated[
        int, Parameter(validator=_PORT, help="Port of the API proxy; 0: any free one.")
    ] = 8080,
    query_port: Annotated[
        int, Parameter(validator=_PORT, help="Port of the query API; 0: any free one.")
    ] = 8000,
    broker_port: Annotated[
        int, Parameter(validator=_PORT, help="Port of the embedded broker; 0: any free one.")
    ] = 0,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run the whole system on this machine: broker, store and every service.

    It says `ready` with the addresses once it can serve, and ends in good order on SIGTERM or Ctrl-C.
    The first start writes keys to `credentials.json` in the data folder; other commands find them there.
    """
    logging.configure("console", level="warning")
    folder = DataFolder((data_dir or default_data_dir()).expanduser())
    ports = Ports(
        ingest=ingest_port,
        otlp_grpc=otlp_grpc_port,
        proxy=proxy_port,
        query=query_port,
        broker=broker_port,
    )
    with folder.locked():
        refuse_taken(ports)
        try:
            asyncio.run(_run(folder, ports, as_json=json))
        except TokentideError as exc:
            raise Failure(exc.detail) from exc


async def _run(folder: DataFolder, ports: Ports, *, as_json: bool) -> None:
    stopping = asyncio.create_task(stop_requested(), name="signals")
    ready = asyncio.Event()
    system = asyncio.create_task(_serve(folder, ports, stopping, ready, as_json=as_json), name="system")
    await asyncio.wait({stopping, system}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set():
        system.cancel()  # whatever the start still waits for, nobody wants it any more
    try:
        await asyncio.wait({system})
    finally:
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopping
    if not system.cancelled():
        system.result()


async def _serve(
    folder: DataFolder, ports: Ports, stopping: asyncio.Task[None], is_ready: asyncio.Event, *, as_json: bool
) -> None:
    if not as_json:
        notes().print("starting …")
    async with embedded_system(folder, ports, local_zone() or "UTC") as (ready, ended):
        is_ready.set()
        folder.write_private(folder.addresses, ready)
        try:
            _announce(ready, as_json=as_json)
            await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            folder.addresses.unlink(missing_ok=True)
        if ended.done():
            ended.result()
            raise Failure("a part of the system ended by itself", hint=f"see {folder.broker_log}")
        ended.cancel()
        if not as_json:
            notes().print("stopping …")


def _announce(ready: Ready, *, as_json: bool) -> None:
    if as_json:
        write_json(ready)
        return
    console = results()
    console.print(
        f"[bold green]ready[/]  query [bold]{ready.query}[/]  ingest {ready.ingest}  "
        f"otlp grpc {ready.otlp_grpc}  proxy {ready.proxy}  broker {ready.broker}"
    )
    console.print(f"       keys in {ready.credentials}")
    console.print("       next: [bold]tokentide push[/], then [bold]tokentide stats[/]")
