"""Experiments on what the text claims, a module for each claim; see `claims.py`."""
