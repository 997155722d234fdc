"""Imports one package, whichever environment this is."""

import importlib
import time

import protocol


def prepare(module: str, seed: int):
    del seed

    def run(number):
        start = time.perf_counter()
        found = importlib.import_module(module)
        seconds = time.perf_counter() - start
        return seconds, 1, {"version": getattr(found, "__version__", None)}

    return run, {}


if __name__ == "__main__":
    protocol.serve({"import": prepare})
