"""Signals that ask a training to end: Ctrl-C, and what job schedulers send."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

_DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
SAME_SECONDS = 0.5
"""Within so many of the first signal, another one is the same one, sent twice."""


class Asked(threading.Event):
    """Set once a signal has asked for an end; it says which."""

    number: int | None = None
    """Of the first signal; None: none came."""
    time: float = 0.0
    """When that was, by the monotonic clock."""


@contextlib.contextmanager
def deferred() -> Iterator[Asked]:
    """An event that the first SIGINT or SIGTERM sets; a later one acts at once.

    Where a signal has a handler that is not Python's own, or this is not the main
    thread, which alone may handle signals, the signal does what it did.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    ours = [n for n, default in _DEFAULTS.items() if signal.getsignal(n) == default]

    def restore():
        for number in ours:
            signal.signal(number, _DEFAULTS[number])

    def handle(number, _):
        # A wrapper may pass on what the terminal has sent to all of a group already.
        if asked.is_set() and time.monotonic() - asked.time > SAME_SECONDS:
            restore()
            signal.raise_signal(number)
            return
        if asked.is_set():
            return
        asked.number, asked.time = number, time.monotonic()
        asked.set()
        again = " Ctrl-C again stops at once." if number == signal.SIGINT else ""
        # Whoever reads the output may be gone by the same signal.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            print(f"\nStopping as soon as all is saved.{again}", flush=True)

    for number in ours:
        signal.signal(number, handle)
    try:
        yield asked
    finally:
        restore()


def end(number: int, words: str) -> NoReturn:
    """Ends as a signal asks, saying why: by KeyboardInterrupt, or by the signal itself.

    Raises:
      KeyboardInterrupt: `number` is SIGINT.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt(words)
    with contextlib.suppress(OSError, ValueError):
        print(words, flush=True)
    signal.raise_signal(number)
    raise SystemExit(128 + number)  # only where the signal has a handler
