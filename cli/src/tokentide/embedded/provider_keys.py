"""`tokentide provider-key`: the providers' keys with which the proxy of this machine calls for its users."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from tokentide.connection import default_data_dir
from tokentide.embedded.credentials import Credentials, read_credentials
from tokentide.embedded.data_folder import DataFolder
from tokentide.embedded.secret_key import ensure_secret_key
from tokentide.failures import Exit, Failure
from tokentide.options import DataDir, Json
from tokentide.terminal import notes, results, write_json
from tokentide_common.database import Engine, open_database
from tokentide_common.errors import TokentideError
from tokentide_common.provider_credentials import Vault, forget_credential, keep_credential, kept_keys
from tokentide_common.secret_input import read_secret
from tokentide_proxy.upstream_table import BUILT_IN

Name = Annotated[
    str,
    Parameter(help="`anthropic`, `openai`, `gemini`, or a name of `TOKENTIDE_PROXY_UPSTREAMS`."),
]


def set_key(name: Name, /, *, data_dir: DataDir = None) -> int:
    """Keep a provider's key for the proxy, in place of the one before; it is never shown again.

    The key is asked for without echo, or read from standard input. It works within seconds.
    """
    folder = _folder(data_dir)
    with _accounts(folder) as (engine, credentials):
        vault = Vault(ensure_secret_key(folder, os.environ))
        keep_credential(engine, vault, credentials.organization, name, read_secret(f"key for {name}: "))
    if name not in {entry.partition("=")[0] for entry in BUILT_IN}:
        notes().print(f"{name} is not built in: TOKENTIDE_PROXY_UPSTREAMS of `tokentide up` must name it")
    return Exit.OK


def list_keys(*, as_json: Json = False, data_dir: DataDir = None) -> int:
    """Show for which providers a key is kept, and since when."""
    with _accounts(_folder(data_dir)) as (engine, credentials):
        kept = kept_keys(engine, credentials.organization)
    if as_json:
        write_json(kept)
        return Exit.OK
    table = Table("provider", "since")
    for key in kept:
        table.add_row(key.name, key.changed_at.astimezone().strftime("%Y-%m-%d %H:%M"))
    results().print(table)
    return Exit.OK


def remove_key(name: Name, /, *, data_dir: DataDir = None) -> int:
    """Forget a provider's key; the proxy stops to use it within seconds."""
    with _accounts(_folder(data_dir)) as (engine, credentials):
        forget_credential(engine, credentials.organization, name)
    return Exit.OK


def _folder(data_dir: DataDir) -> DataFolder:
    return DataFolder((data_dir or default_data_dir()).expanduser())


@contextlib.contextmanager
def _accounts(folder: DataFolder) -> Iterator[tuple[Engine, Credentials]]:
    """Open the accounts of a data folder, whether a system runs in it or not."""
    credentials = read_credentials(folder)
    if credentials is None:
        raise Failure(f"no system has run in {folder.root} yet", hint="start one first: `tokentide up`")
    engine = open_database(f"sqlite:///{folder.accounts}")
    try:
        yield engine, credentials
    except TokentideError as exc:
        raise Failure(exc.detail) from exc
    finally:
        engine.dispose()
