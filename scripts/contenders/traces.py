"""What took the time in a trace of `jax.profiler`, read from its own JSON."""

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

CONTROL_FLOW = ("while", "call", "conditional")
"""Of a CPU's operations, those that contain others."""


class Kernel(NamedTuple):
    """All runs of one kernel, or on a CPU of one operation."""

    name: str
    runs: int
    milliseconds: float
    share: float
    """Of the time of all kernels."""


def read(folder: Path) -> list[Kernel]:
    """The kernels of all traces in `folder`, the longest first; [] if there are none.

    Raises:
      OSError, ValueError: a trace can't be read.
    """
    found: list[Kernel] = []
    for path in folder.glob("**/*.trace.json.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found += kernels(json.load(file).get("traceEvents", []))
    return sorted(found, key=lambda kernel: -kernel.milliseconds)


def kernels(events: list[dict[str, Any]]) -> list[Kernel]:
    """A GPU's kernels, by the events of its streams; else the operations of a CPU."""
    processes, threads = {}, {}
    for event in events:
        name = event.get("args", {}).get("name", "")
        if event.get("name") == "process_name":
            processes[event["pid"]] = name
        elif event.get("name") == "thread_name":
            threads[event["pid"], event["tid"]] = name

    def on_stream(event):
        thread = threads.get((event["pid"], event["tid"]), "")
        device = processes.get(event["pid"], "").startswith("/device:")
        return device and thread.startswith("Stream")

    def operation(event):
        named = "hlo_op" in event.get("args", {})
        return named and not event["name"].startswith(CONTROL_FLOW)

    timed = [event for event in events if event.get("ph") == "X"]
    chosen = list(filter(on_stream, timed)) or list(filter(operation, timed))
    durations = defaultdict(list)
    for event in chosen:
        durations[event["name"]].append(event.get("dur", 0.0) / 1e3)
    total = sum(map(sum, durations.values())) or 1.0
    found = [
        Kernel(name, len(times), sum(times), sum(times) / total)
        for name, times in durations.items()
    ]
    return sorted(found, key=lambda kernel: -kernel.milliseconds)
