"""What the gate counts, and how Prometheus reads it.

Counting is a handful of additions per request, none per event; the text is made when somebody
asks. It knows no requests: the guard tells it what happened, a page what holds now.

Source: Prometheus, "Exposition formats", text format 0.0.4, and "Metric and label naming". The
format is four lines of rules, which is less than a library for it would cost at every start.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the buckets: from the gate's own part to a long turn of an agent."""

Labels = tuple[tuple[str, str], ...]
Kind = Literal["counter", "gauge", "histogram"]


class Family(msgspec.Struct, frozen=True):
    """One metric with all its samples."""

    name: str
    kind: Kind
    help: str
    samples: Iterable[tuple[str, Labels, float]]
    """Suffix of the name, labels, value."""


class Histogram:
    """How long things took."""

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def samples(self, labels: Labels) -> Iterator[tuple[str, Labels, float]]:
        """Buckets, each with all below it, then sum and count."""
        total = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            yield "_bucket", (*labels, ("le", bound)), total
        yield "_sum", labels, self._sum
        yield "_count", labels, total


class Metrics:
    """The counts of one gate, since it started."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, Histogram] = {}
        self._first: dict[str, Histogram] = {}
        self._tokens: dict[tuple[str, str], int] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that is over. `method` and `route` are ours, never what a caller wrote."""
        key = (method, route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        if route not in self._seconds:
            self._seconds[route] = Histogram()
        self._seconds[route].add(seconds)

    def first(self, backend: str, seconds: float) -> None:
        """Count the time to an answer's first event."""
        if backend not in self._first:
            self._first[backend] = Histogram()
        self._first[backend].add(seconds)

    def tokens(self, backend: str, read: int, written: int) -> None:
        """Count what an answer cost."""
        for direction, count in (("input", read), ("output", written)):
            key = (backend, direction)
            self._tokens[key] = self._tokens.get(key, 0) + count

    def families(self) -> list[Family]:
        """Everything that was counted."""
        requests = (
            ("", (("method", method), ("route", route), ("status", str(status))), count)
            for (method, route, status), count in sorted(self._requests.items())
        )
        tokens = (
            ("", (("backend", backend), ("direction", direction)), count)
            for (backend, direction), count in sorted(self._tokens.items())
        )
        return [
            Family("codexgate_requests_total", "counter", "Requests that are over.", requests),
            Family(
                "codexgate_request_seconds",
                "histogram",
                "Time from a request's head to the end of its answer.",
                _all(self._seconds, "route"),
            ),
            Family(
                "codexgate_first_token_seconds",
                "histogram",
                "Time from a request's head to the first event of the model.",
                _all(self._first, "backend"),
            ),
            Family("codexgate_tokens_total", "counter", "Tokens read and written.", tokens),
        ]


def gauge(name: str, help: str, values: Mapping[Labels, float]) -> Family:
    """Something that holds now."""
    return Family(name, "gauge", help, [("", labels, value) for labels, value in values.items()])


def expose(families: Iterable[Family]) -> str:
    """The text that Prometheus reads."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for suffix, labels, value in family.samples:
            told = ",".join(f'{name}="{_escape(text)}"' for name, text in labels)
            lines.append(f"{family.name}{suffix}{f'{{{told}}}' if told else ''} {float(value)}")
    return "\n".join([*lines, ""])


def _all(histograms: dict[str, Histogram], label: str) -> Iterator[tuple[str, Labels, float]]:
    for name, histogram in sorted(histograms.items()):
        yield from histogram.samples(((label, name),))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
