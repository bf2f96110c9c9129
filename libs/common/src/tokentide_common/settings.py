"""Settings: one frozen struct per service, from `TOKENTIDE_…` variables, all mistakes told at once.

The field `ingest_port` is the variable `TOKENTIDE_INGEST_PORT`. An empty variable counts as not set. A
field's type says what is accepted and its `msgspec.Meta` describes it; `extra` may give `expected`, the rule
in words, and `secret`, which hides the value.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from tokentide_common.errors import TokentideError
from tokentide_common.setting_names import KNOWN

PREFIX: Final = "TOKENTIDE_"

Port = Annotated[
    int, msgspec.Meta(ge=0, le=65535, extra={"expected": "a port from 0 (any free one) to 65535"})
]
BrokerUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^kafka://[^\s,/]+:\d+(,[^\s,/]+:\d+)*$", extra={"expected": "kafka://host:port[,host:port]"}
    ),
]
ClickHouseUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(clickhouse://([^\s@/]*@)?[^\s@/]+(/\w+)?(\?\S*)?|chdb:///\S+)$",
        extra={"expected": "clickhouse://user:password@host:8123/database or chdb:///directory"},
    ),
]
DatabaseUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(sqlite(\+\w+)?:///\S+|postgresql(\+\w+)?://\S+)$",
        extra={"expected": "sqlite:///file or postgresql://user:password@host:5432/database"},
    ),
]


class SharedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service may be told; the defaults fit one machine."""

    broker_url: Annotated[BrokerUrl, msgspec.Meta(description="Kafka brokers, Redpanda or any other.")] = (
        "kafka://127.0.0.1:9092"
    )
    clickhouse_url: Annotated[
        ClickHouseUrl,
        msgspec.Meta(description="The store of calls: a ClickHouse server or an embedded engine."),
    ] = "clickhouse://default@127.0.0.1:8123/tokentide"
    database_url: Annotated[
        DatabaseUrl,
        msgspec.Meta(description="Organisations, keys, batch claims and leases: an SQLAlchemy URL."),
    ] = "sqlite:///tokentide.db"
    secret_key: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(\S{32,})?$",
            description="Signs what is handed out and comes back, and encrypts providers' keys. The same "
            "for all replicas; made anew at each start when empty, and then no provider's key can be kept.",
            extra={"secret": True, "expected": "at least 32 characters without spaces"},
        ),
    ] = ""
    bind_host: Annotated[
        str, msgspec.Meta(min_length=1, description="Address on which to listen; 0.0.0.0 in a container.")
    ] = "127.0.0.1"
    log_format: Annotated[
        Literal["json", "console"], msgspec.Meta(description="One JSON object a line, or coloured text.")
    ] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        msgspec.Meta(description="The least level that is logged."),
    ] = "info"
    embedded: Annotated[
        bool,
        msgspec.Meta(
            description="The broker keeps its records in memory: acknowledge only what is stored. "
            "Set by `tokentide up`."
        ),
    ] = False


class ConsumerSettings(SharedSettings, frozen=True, kw_only=True):
    """What a service without an HTTP port of its own is told besides."""

    health_port: Annotated[
        Port, msgspec.Meta(description="Where a consumer serves /healthz, /readyz and /metrics.")
    ] = 8081


Settings = TypeVar("Settings", bound=SharedSettings)


def load(cls: type[Settings], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a service from the environment.

    Raises a `TokentideError` with code `invalid_settings` whose `fields` name every mistake: malformed values
    and `TOKENTIDE_…` variables that no part of Tokentide knows. Values are not quoted: they may be secret.
    """
    given = {
        name: value
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX)
    }
    values: dict[str, object] = {}
    mistakes: dict[str, str] = {}
    fields = {variable(field.name): field for field in msgspec.structs.fields(cls)}
    for name, text in sorted(given.items()):
        if name not in fields:
            if name not in KNOWN:
                mistakes[name] = _unknown(name, KNOWN | fields.keys())
        elif text != "":
            try:
                values[fields[name].name] = _value(text, fields[name].type)
            except msgspec.ValidationError:
                mistakes[name] = _malformed(text, fields[name].type)
    for name, field in fields.items():
        if field.required and field.name not in values and name not in mistakes:
            mistakes[name] = "must be set"
    if mistakes:
        raise TokentideError(_all(mistakes), code="invalid_settings", fields=mistakes)
    return msgspec.convert(values, cls)


def load_or_exit(cls: type[Settings], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings, or end the process with code 2 and every mistake on standard error."""
    try:
        return load(cls, environ)
    except TokentideError as exc:
        sys.stderr.write(f"{exc.detail}\n")
        raise SystemExit(2) from None


def run_check_flag(
    argv: Sequence[str], cls: type[Settings], environ: Mapping[str, str] | None = None
) -> None:
    """With `--check` among the arguments, print the effective settings, secrets masked, and end the process.

    The code is 0, or 2 with all mistakes listed.
    """
    if "--check" in argv:
        settings = load_or_exit(cls, environ)
        sys.stdout.writelines(f"{name}={_text(value)}\n" for name, value in effective(settings).items())
        raise SystemExit(0)


def effective(settings: SharedSettings) -> dict[str, object]:
    """Return the settings by variable, with secrets and the passwords inside URLs masked."""
    shown: dict[str, object] = {}
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if _meta(field.type, "extra").get("secret") and value:
            value = "***"
        shown[variable(field.name)] = masked(value) if isinstance(value, str) else value
    return shown


def settings_table(cls: type[SharedSettings]) -> str:
    """Return the settings of a service as a Markdown table, for the reference page."""
    lines = ["| variable | default | accepts | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(cls):
        shown = "" if field.required else _text(field.default)
        default = "required" if field.required else f"`{shown}`" if shown else ""
        accepts = _accepts(field.type).replace("|", "\\|")
        meaning = _meta(field.type, "extra_json_schema").get("description", "").replace("|", "\\|")
        lines.append(f"| `{variable(field.name)}` | {default} | {accepts} | {meaning} |")
    return "\n".join(lines) + "\n"


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + field.upper()


def masked(text: str) -> str:
    """Return a text with the passwords inside its URLs replaced."""
    text = re.sub(r"(?<=://)([^/?#\s:@]*):[^/\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*)=[^&\s]*", r"\1=***", text)


def _value(text: str, kind: object) -> object:
    info = _bare(kind)
    if isinstance(info, msgspec.inspect.BoolType):
        # The words that people write are accepted in any case, besides true, false, 1 and 0.
        text = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower(), text.lower())
    if isinstance(info, (msgspec.inspect.VarTupleType, msgspec.inspect.FrozenSetType)):
        return msgspec.convert([part.strip() for part in text.split(",")], kind, strict=False)
    return msgspec.convert(text, kind, strict=False)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, frozenset)):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _malformed(text: str, kind: object) -> str:
    hint = ""
    if text.startswith("tcp://"):
        hint = "; Kubernetes made this value for a Service of that name: set enableServiceLinks to false"
    return f"must be {_accepts(kind)}{hint}"


def _unknown(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"no part of Tokentide knows this variable{hint}"


def _all(mistakes: Mapping[str, str]) -> str:
    return "\n".join(
        ["The settings are not valid:", *(f"  {name}: {text}" for name, text in mistakes.items())]
    )


def _accepts(kind: object) -> str:
    expected = _meta(kind, "extra").get("expected")
    if expected:
        return str(expected)
    info = _bare(kind)
    match info:
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(map(str, values))
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return ("a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number") + _range(
                info
            )
        case msgspec.inspect.VarTupleType() | msgspec.inspect.FrozenSetType():
            return "a list with commas"
        case _:
            return "text"


def _range(info: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    bounds = [("at least", info.ge), ("over", info.gt), ("at most", info.le), ("under", info.lt)]
    said = [f"{words} {bound}" for words, bound in bounds if bound is not None]
    return f" {' and '.join(said)}" if said else ""


def _bare(kind: object) -> msgspec.inspect.Type:
    info = msgspec.inspect.type_info(kind)
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(info, msgspec.inspect.UnionType):  # `X | None`
        return next(part for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
    return info


def _meta(kind: object, part: Literal["extra", "extra_json_schema"]) -> dict[str, Any]:
    info = msgspec.inspect.type_info(kind)
    return (getattr(info, part) or {}) if isinstance(info, msgspec.inspect.Metadata) else {}
