"""A training in one HTML file, scrubbed and played without Python or a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    Div,
    GlobalInlineStyleSheet,
    LinearColorMapper,
    Slider,
    Toggle,
)
from bokeh.resources import INLINE

from rljax.lab import page
from rljax.lab.bandits import BanditTab
from rljax.lab.cartpole import PoleTab
from rljax.lab.gridworld import GridTab
from rljax.lab.rlhf import AlignmentTab

KINDS: dict[str, tuple[Any, int]] = {
    "gridworld": (GridTab, 6000),
    "bandits": (BanditTab, 1000),
    "pole": (PoleTab, 60_000),
    "rlhf": (AlignmentTab, 150),
}
"""What can be recorded, and how many steps of it unless one says so."""

# What changes in the course of a training, by the kind of model.
CHANGES: dict[type, tuple[str, ...]] = {
    ColumnDataSource: ("data",),
    LinearColorMapper: ("low", "high"),
    Div: ("text",),
}
SHOW = """
for (let i = 0; i < models.length; i++) {
  models[i].setv(frames[i][cb_obj.value])
}
"""
PLAY = """
clearInterval(window.rljax_playing)
this.label = this.active ? "❚❚ pause" : "▶ play"
if (this.active) {
  if (slider.value == slider.end) slider.value = 0
  window.rljax_playing = setInterval(() => {
    if (slider.value < slider.end) slider.value += 1
    else this.active = false
  }, 80)
}
"""


def write(
    path: Path, kind: str, *, num_steps: int, num_frames: int, seed: int = 0
) -> None:
    """Trains as a tab of the page does, and writes what it shows to a file.

    Args:
      path: of the HTML file.
      kind: a name in `KINDS`.
      num_steps: steps of the training, as the tab counts them.
      num_frames: moments that are recorded besides the start, at equal numbers of
        steps.
      seed: of everything that is drawn.

    Raises:
      FileExistsError: the file is there already; it stays as it is.
    """
    tab = KINDS[kind][0]()
    tab.seed.value = seed
    moments = np.linspace(0, num_steps, num_frames + 1).astype(int)
    html = page_of(tab, moments)
    with path.open("x", encoding="utf-8") as file:  # a file that is there stays
        file.write(html)


def page_of(tab: page.Tab, moments: Sequence[int] | np.ndarray) -> str:
    """The HTML of a tab that goes on to each number of steps in turn."""
    models = [
        model
        for kind in CHANGES
        for part in (tab.numbers, *tab.shown)
        for model in part.select({"type": kind})
    ]
    frames: list[list[dict[str, Any]]] = [[] for _ in models]
    done = 0
    for moment in moments:
        tab.step_to_record(int(moment) - done)
        done = int(moment)
        for model, seen in zip(models, frames, strict=True):
            seen.append(_state(model))
    changing = [
        i for i, seen in enumerate(frames) if any(not _same(seen[0], x) for x in seen)
    ]
    slider = Slider(
        title="moment", start=0, end=len(moments) - 1, value=0, step=1, width=600
    )
    arguments = {
        "models": [models[i] for i in changing],
        "frames": [frames[i] for i in changing],
    }
    slider.js_on_change("value", CustomJS(args=arguments, code=SHOW))
    play = Toggle(label="▶ play", button_type="primary", width=95)
    play.js_on_change("active", CustomJS(args={"slider": slider}, code=PLAY))
    for i in changing:
        models[i].update(**frames[i][0])
    root = column(row(play, slider), tab.numbers, row(*tab.shown))
    play.stylesheets = [GlobalInlineStyleSheet(css=page.PAGE_CSS)]
    slider.stylesheets = [page.sheet()]
    document = Document()
    document.add_root(root)
    return file_html(
        document,
        INLINE,
        title=f"rljax: {tab.title}",
        suppress_callback_warning=True,  # they are of the page with Python
    )


def _state(model: Any) -> dict[str, Any]:
    state = {name: getattr(model, name) for name in CHANGES[type(model)]}
    if "data" in state:
        state["data"] = {name: _compact(x) for name, x in state["data"].items()}
    return state


def _compact(values: Any) -> Any:
    """A copy; numbers in single precision, which is more than a screen shows."""
    array = np.array(values)
    if array.dtype.kind == "f" and array.size:  # an empty list may be one of colours
        return array.astype(np.float32)
    return array if isinstance(values, np.ndarray) else list(values)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_same(one[name], other[name]) for name in one)
    return np.array_equal(one, other)
