#!/usr/bin/env python
"""Runs all notebooks of this folder from top to bottom and keeps their outputs."""

import sys
from pathlib import Path
from typing import Any

try:
    import nbformat
    from nbclient import NotebookClient
except ImportError as error:
    sys.exit(f"{error}. Install the extra of the tests: pip install -e '.[test]'")

FOLDER = Path(__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def execute(notebook: Any) -> None:
    """Runs the cells in a fresh kernel; the times they took aren't noted in them.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell raises.
    """
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(
        notebook, timeout=600, record_timing=False, resources=resources
    ).execute()
    # Of the Python that ran them, these are the only words of a version.
    notebook.metadata.language_info = {"name": "python"}


def main() -> None:
    for path in NOTEBOOKS:
        print(path.name)
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.metadata.clear()
        execute(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
