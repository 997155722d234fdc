"""A figure that shows itself in a notebook. Imports Matplotlib, so it is imported late.

Matplotlib's own figures do so where pyplot was imported, which keeps every figure in
memory until it is closed, and which a program without a display may not want.
"""

import io

import matplotlib.figure


class Figure(matplotlib.figure.Figure):
    """Matplotlib's figure with a picture for notebooks."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
