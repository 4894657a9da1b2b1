"""Counts and times of a gateway, in the text format that Prometheus reads."""

from collections import defaultdict
from collections.abc import Iterator

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_HELP = {
    "equilm_requests_total": "Requests by endpoint and status.",
    "equilm_draws_total": "Elements drawn, by the axes that were on.",
    "equilm_refusals_total": "Requests refused, by reason.",
    "equilm_upstream_errors_total": "Failures of upstream servers, by kind.",
    "equilm_client_disconnects_total": "Requests whose client went away.",
}


class Metrics:
    """The counters and histograms of one gateway."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self.in_progress = 0
        self.request_seconds = Histogram("equilm_added_seconds", "Time that the gateway itself took for a request.")
        self.chunk_seconds = Histogram("equilm_added_chunk_seconds", "Time that the gateway took for a streamed chunk.")

    def count(self, name: str, **labels: object) -> None:
        """Add one to a counter."""
        pairs = ",".join(f'{key}="{_escape(str(value))}"' for key, value in labels.items())
        self._counts[name, f"{{{pairs}}}" if pairs else ""] += 1

    def text(self) -> str:
        """All of it, one sample a line."""
        lines = ["# HELP equilm_in_progress Generations that run now.", "# TYPE equilm_in_progress gauge"]
        lines.append(f"equilm_in_progress {self.in_progress}")
        for name, about in _HELP.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} counter"]
            lines += [f"{key}{labels} {count}" for (key, labels), count in sorted(self._counts.items()) if key == name]
        return "\n".join((*lines, *self.request_seconds.lines(), *self.chunk_seconds.lines(), ""))


class Histogram:
    """How often a time fell below each bound."""

    def __init__(self, name: str, about: str):
        self._name, self._about = name, about
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Take in one time."""
        self._counts[sum(seconds > bound for bound in _BUCKETS)] += 1
        self._sum += seconds

    def lines(self) -> Iterator[str]:
        """The samples, cumulative as the format wants them."""
        yield f"# HELP {self._name} {self._about}"
        yield f"# TYPE {self._name} histogram"
        total = 0
        for bound, count in zip((*_BUCKETS, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{self._name}_bucket{{le="{bound}"}} {total}'
        yield f"{self._name}_sum {self._sum:.6f}"
        yield f"{self._name}_count {total}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
