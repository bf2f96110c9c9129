"""Logs: one JSON object a line on standard error, events as constant snake_case names, nothing confidential.

Everything goes one way, the lines of uvicorn, aiokafka and SQLAlchemy included: redaction sees it all.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Final, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["json", "console"]

_HIDDEN: Final = "[redacted]"
# Values under these names are never logged. Counts like `input_tokens` and ids like `key_id` are not secrets.
_SECRET_NAME: Final = re.compile(
    r"(^|[_-])(authorization|api[_-]?key|tokentide[_-]key|password|passwd|secret|secret[_-]key|cookie"
    r"|credentials?|private[_-]key|(access|refresh|id|auth|bearer)[_-]token|prompt|prompts|completion|body"
    r"|messages|tool[_-]input)$|^(token|key|content)$",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"tt_[mpa]_[0-9A-Za-z]+"
    r"|\bttr_[0-9A-Za-z_-]+"
    r"|\b(?:sk-|xai-|gsk_|[sr]k_(?:live|test)_)[0-9A-Za-z_-]{8,}"
    r"|\b(?:AIza|AQ\.)[0-9A-Za-z_-]{20,}"
    # Headers as text: the scheme is none of the secret, and not the end of it.
    r"|\b(?:authorization|(?:x-)?(?:goog-)?api[_-]?key|x-tokentide-key)[\"']?\s*[:=]\s*[\"']?"
    r"(?:(?:Bearer|Basic)\s+)?[^\s\"',]+"
    r"|\b(?:Bearer|Basic)\s+[^\s\"',]+"
    # Up to the last at sign of the authority: a password may contain some.
    r"|(?<=://)[^/?#\s:@]*:[^/\s\"]+(?=@)",
    re.IGNORECASE,
)
# Talkative libraries: their warnings matter, their news do not. An access log would repeat the metrics, and
# name people and projects in its query strings, and so would what is told to the accounts database.
_LIBRARY_LEVELS: Final = {
    "aiokafka": logging.WARNING,
    "aiosqlite": logging.WARNING,
    "authlib": logging.WARNING,
    "faststream": logging.ERROR,  # warns of what is so by design: that it creates no topics
    "httpcore": logging.WARNING,
    "httpcore2": logging.WARNING,
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "uvicorn.error": logging.WARNING,
}


def configure(fmt: LogFormat = "json", *, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the whole process; calling it again replaces what the last call set up."""
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_library_line, *_shared_processors()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(fmt)],
        )
    )
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in _LIBRARY_LEVELS.items():
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(least, root.level))
    structlog.configure(
        processors=[*_shared_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=False,  # else a later call would not reach loggers that are in use
    )


class _Handler(logging.StreamHandler[TextIO]):
    """Our own handler, recognised when logging is configured again."""


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _rendering(fmt: LogFormat) -> list[Processor]:
    if fmt == "console":
        plain = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [structlog.processors.format_exc_info, redact, plain]
    # Locals would carry event content and keys into the log.
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(frames),
        redact,
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide what must not be logged, by the name of its key and by the look of its text."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: object, value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(name, str) and _SECRET_NAME.search(name):
        return _HIDDEN
    if isinstance(value, Mapping):
        return {key: _redacted(key, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted("", inner) for inner in value]
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return _SECRET_TEXT.sub(_HIDDEN, text)


def _name_library_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep events constant: a library's sentence becomes the field `message`."""
    return {**event, "event": "library_log", "message": event["event"]}


def _to_json(event: Mapping[str, object], **_unused: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
