"""What scripts/benchmark.py races: one program per contender, and those that run them.

A `*_worker.py` is a program of its own: it runs in the contender's own environment and
imports nothing of the others'.
"""
