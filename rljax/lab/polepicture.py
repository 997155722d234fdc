"""Cart and pole in Bokeh: who pushes which way, and where the last episode ended."""

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource

from rljax.envs.cartpole import CartPole
from rljax.lab import page

WIDTH, HEIGHT = 700, 274
SEEN = 2.8
"""Metres of the track to either side that are seen."""
BELOW = 0.07
"""Metres below the track; above there is room for the longest pole, of 1.6 m."""
CART_WIDTH, CART_HEIGHT = 0.5, 0.24
MIDDLE = CART_HEIGHT / 2 + 0.02
"""Height of the cart's middle."""
POLE = "#b5793c"
"""Wood, which is read on white as on black."""
NOWHERE: Any = {name: [np.nan] for name in ("x", "y", "top_x", "top_y")}
MOVING = ("force_x", "force_angle", "push_x", "push_angle")


class PolePicture:
    """A plot of a cart on its track with a pole on it, in metres."""

    def __init__(self):
        high = 2 * SEEN * (HEIGHT - 34) / (WIDTH - 10)  # a metre is as long both ways
        self.plot = page.plot(
            "The cart as its agent learns; at speed 50 in real time",
            width=WIDTH,
            height=HEIGHT,
            x_range=(-SEEN, SEEN),
            y_range=(-BELOW, high - BELOW),
        )
        self.plot.axis.visible = self.plot.grid.visible = False
        # What moves together is one source: a browser never draws a half of it.
        self._cart = ColumnDataSource(
            NOWHERE | {name: [np.nan] for name in MOVING} | {"color": [page.GREY]}
        )
        self._fallen = ColumnDataSource(NOWHERE)
        self._draw_track()
        self._draw_fallen()
        self._draw_cart()

    def _draw_track(self):
        env = CartPole()
        end = env.x_threshold
        self.plot.segment(-SEEN, 0, SEEN, 0, color=page.GREY, width=1)
        self.plot.segment(
            [-end, end],
            0,
            [-end, end],
            0.35,
            color=page.GREY,
            width=3,
            line_cap="round",
        )
        # The angles at which an episode goes on.
        self._sector = self.plot.wedge(
            "x",
            "y",
            radius=0.9,
            start_angle=np.pi / 2 - env.theta_threshold,
            end_angle=np.pi / 2 + env.theta_threshold,
            source=self._cart,
            color=page.GREY,
            alpha=0.18,
        )

    def _draw_fallen(self):
        self.plot.segment(
            "x",
            "y",
            "top_x",
            "top_y",
            source=self._fallen,
            color=page.GREY,
            alpha=0.45,
            width=7,
            line_cap="round",
        )
        self.plot.rect(
            "x",
            MIDDLE,
            CART_WIDTH,
            CART_HEIGHT,
            source=self._fallen,
            color=page.GREY,
            alpha=0.25,
        )

    def _draw_cart(self):
        self.plot.rect(
            "x",
            MIDDLE,
            CART_WIDTH,
            CART_HEIGHT,
            source=self._cart,
            fill_color="color",
            line_color=None,
        )
        self.plot.segment(
            "x",
            "y",
            "top_x",
            "top_y",
            source=self._cart,
            color=POLE,
            width=9,
            line_cap="round",
        )
        self.plot.scatter(
            "x", "y", source=self._cart, size=8, fill_color="white", line_color="black"
        )
        arrow: Any = {"y": MIDDLE, "marker": "triangle", "source": self._cart}
        self.plot.scatter(
            x="force_x",
            angle="force_angle",
            size=13,
            color=page.GREY,
            alpha=0.8,
            **arrow,
        )
        self.plot.scatter(
            x="push_x",
            angle="push_angle",
            size=34,
            color=page.PURPLE,
            line_color="black",
            **arrow,
        )

    def show(
        self, state: np.ndarray, length: float, color: str, agent: int, person: int
    ) -> None:
        """A state of the environment, and which way it is pushed.

        Args:
          state: [4].
          length: of the pole, m.
          color: of the cart.
          agent: −1 where the agent pushes to the left, 1 to the right, 0 not.
          person: the same of a person.
        """
        x, beside = float(state[0]), CART_WIDTH / 2 + 0.09
        arrows: Any = {
            "force_x": [x + agent * beside if agent else np.nan],
            "force_angle": [-agent * np.pi / 2],
            "push_x": [x - person * (beside + 0.2) if person else np.nan],
            "push_angle": [-person * np.pi / 2],
        }
        self._cart.data = arrows | _places(state, length) | {"color": [color]}
        self._sector.glyph.radius = 0.9 * length

    def show_fallen(self, state: np.ndarray | None, length: float) -> None:
        """Where the last episode ended, or nothing."""
        self._fallen.data = NOWHERE if state is None else _places(state, length)


def _places(state: np.ndarray, length: float) -> dict[str, Any]:
    """Both ends of the pole, of which the lower one is on the cart."""
    x, theta, axle = float(state[0]), float(state[2]), CART_HEIGHT + 0.02
    return {
        "x": [x],
        "y": [axle],
        "top_x": [x + length * np.sin(theta)],
        "top_y": [axle + length * np.cos(theta)],
    }
