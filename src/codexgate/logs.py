"""The log: one event a line, as text or JSON.

An event is a name (`chat.ok`) with fields, handed to the standard logger as
`log.info("chat.ok", extra={"fields": {...}})`. Never a key, never a prompt or an answer at info
level. Control characters are escaped: a line of the log is always one line.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

LogFormat = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]


def configure(form: LogFormat = "text", level: Level = "info") -> None:
    """Send the project's log to standard error in `form`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger("codexgate")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    # No line tells of these, and each costs time (docs.python.org, Logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def escape(text: str) -> str:
    """`text` with everything that a terminal could act on written out, as in `repr`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"ts": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        line |= _fields(record)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {escape(record.getMessage())}{fields}"
        if not record.exc_info:
            return line
        trace = self.formatException(record.exc_info).split("\n")  # it may quote what a model said
        return "\n".join([line, *map(escape, trace)])


def _quoted(value: object) -> str:
    text = escape(str(value))
    return f'"{text}"' if " " in text or not text else text
