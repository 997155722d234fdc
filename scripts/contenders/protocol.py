"""How a worker talks to the benchmark: a line of JSON for every line it is sent.

It prepares the one task that its command line names and says "ready". For every "run"
it is sent it does the task's work once and says how long that took, how much work it
was and what came of it. At "stop" it says how much memory it needed, and ends.

Nothing here needs more than Python, as every contender's environment has that.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

Run = Callable[[int], tuple[float, int, dict[str, Any]]]
"""Of the run's number: its seconds, its amount of work, and what is to be checked."""
Task = Callable[..., tuple[Run, dict[str, Any]]]
"""Of the settings: a prepared run, and what is to be known of the preparation."""


def serve(tasks: dict[str, Task], packages: Sequence[str] = ()) -> None:
    """Does what the command line and then the standard input say."""
    # Whatever a library prints goes to stderr, so that it can't garble the protocol.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(event: str, **content: Any) -> None:
        print(json.dumps({"event": event, **content}), file=out, flush=True)

    settings = json.loads(sys.argv[1])
    run, facts = tasks[settings.pop("task")](**settings)
    versions = {name: importlib.metadata.version(name) for name in packages}
    say("ready", versions=versions, **facts)
    for number, line in enumerate(sys.stdin):
        if line.strip() != "run":
            break
        seconds, work, check = run(number)
        say("run", seconds=seconds, work=work, check=check)
    say("stop", peak_mib=device_peak_mib() if "jax" in packages else peak_mib())


def device_peak_mib() -> float | None:
    """The most that JAX's arrays took of a GPU; on a CPU that of the process."""
    import jax

    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] / 2**20 if stats else peak_mib()


def peak_mib() -> float | None:
    """The most memory this process had at a time, MiB; None where Linux isn't."""
    # Not getrusage: its figure begins with what the parent process had.
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return None
    return int(lines["VmHWM"].split()[0]) / 1024
