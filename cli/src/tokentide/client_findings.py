"""How the coding tools of this machine are set up, as far as it concerns us. Pure but for reading files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tokentide.finding import Finding
from tokentide.log_files import log_roots, session_files
from tokentide_common.setting_names import KNOWN

# Nothing else is taken from settings files, which hold keys too.
_NAMES: Final = (
    "CLAUDE_CODE_ENABLE_TELEMETRY",
    "OTEL_LOGS_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "ANTHROPIC_BASE_URL",
)
_PREFIX: Final = "TOKENTIDE_"


class _Settings(msgspec.Struct):
    env: dict[str, object] = {}


def client_findings(environ: Mapping[str, str], home: Path) -> list[Finding]:
    """Return what there is to say of settings, logs, telemetry and the base URL."""
    roots = log_roots(environ, home)
    said = client_settings(environ, roots)
    return [_names(environ), _logs(roots), _telemetry(said), _base_url(said)]


def client_settings(environ: Mapping[str, str], roots: Sequence[Path]) -> dict[str, str]:
    """Return the variables that concern us: of Claude Code's settings, else of this environment."""
    found = {name: environ[name] for name in _NAMES if environ.get(name)}
    for root in roots:
        for name, value in _env_of(root / "settings.json").items():
            if name in _NAMES:
                found[name] = str(value)
    return found


def _env_of(path: Path) -> Mapping[str, object]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Settings).env
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _names(environ: Mapping[str, str]) -> Finding:
    unknown = sorted(name for name in environ if name.startswith(_PREFIX) and name not in KNOWN)
    if unknown:
        return Finding("settings", "warning", f"nobody knows {', '.join(unknown)}", "correct the spelling")
    return Finding("settings", "ok", "every TOKENTIDE_ variable is known")


def _logs(roots: Sequence[Path]) -> Finding:
    files = session_files(list(roots))
    if files:
        return Finding("logs", "ok", f"{len(files)} session logs of Claude Code")
    looked = ", ".join(str(root) for root in roots)
    return Finding(
        "logs", "warning", f"no session log in {looked}", "set CLAUDE_CONFIG_DIR if they are elsewhere"
    )


def _telemetry(said: Mapping[str, str]) -> Finding:
    if said.get("CLAUDE_CODE_ENABLE_TELEMETRY", "") in ("", "0", "false"):
        return Finding(
            "telemetry",
            "note",
            "Claude Code sends none",
            "set CLAUDE_CODE_ENABLE_TELEMETRY=1 to see latency and people",
        )
    missing = [name for name in ("OTEL_LOGS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT") if not said.get(name)]
    if missing:
        return Finding(
            "telemetry",
            "warning",
            f"on, but without {' and '.join(missing)}",
            "set OTEL_LOGS_EXPORTER=otlp and the endpoint of ingest",
        )
    if "otlp" not in said["OTEL_LOGS_EXPORTER"].split(","):
        return Finding(
            "telemetry", "warning", "its events do not go out by OTLP", "set OTEL_LOGS_EXPORTER=otlp"
        )
    return Finding("telemetry", "ok", f"goes to {_host(said['OTEL_EXPORTER_OTLP_ENDPOINT'])}")


def _base_url(said: Mapping[str, str]) -> Finding:
    url = said.get("ANTHROPIC_BASE_URL", "")
    if not url:
        return Finding(
            "proxy",
            "note",
            "Claude Code calls the provider directly",
            "set ANTHROPIC_BASE_URL to the proxy to count every call as it is made",
        )
    if _host(url) == "api.anthropic.com":
        return Finding("proxy", "note", "ANTHROPIC_BASE_URL is the provider itself")
    if urlsplit(url).path.rstrip("/"):
        return Finding(
            "proxy",
            "warning",
            f"ANTHROPIC_BASE_URL has a path ({_host(url)})",
            "the proxy takes Anthropic's routes at its root",
        )
    return Finding("proxy", "ok", f"calls go to {_host(url)}")


def _host(url: str) -> str:
    """Return host and port: an address may carry a password."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.hostname or ''}{f':{port}' if port else ''}"
