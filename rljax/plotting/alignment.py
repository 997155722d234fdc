"""Policies of RLHF between reward and KL."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rljax import checks
from rljax.plotting import figures


class Alignment(NamedTuple):
    """Exact KL(π‖π_ref) and expected rewards of policies, two arrays of one shape."""

    kl: Any
    """In nats."""
    reward: Any
    """E_π[r]."""


def save_alignment(
    path: str | os.PathLike[str],
    frontier: Alignment,
    runs: Mapping[str, Alignment],
    gaps: Mapping[str, Any],
    proxy: tuple[Alignment, Alignment],
    proxy_runs: tuple[Alignment, Alignment],
    *,
    prices: Mapping[float, tuple[float, float]],
    title: str,
) -> None:
    """Draws the reward of policies against their KL to a picture file, in three panels.

    The first panel shows reward against KL of every run, with the exact Pareto
    frontier. The second shows the relative gap to the optimum over updates, as the
    median and the range over runs. The third shows over-optimisation of learned
    rewards: proxy and true reward against KL, of the exact optima for the proxies and
    of runs trained on them.

    Args:
      path: file to write; its ending chooses the format.
      frontier: [K] the exact optima.
      runs: the runs of each algorithm after training, [num_runs].
      gaps: the relative gaps of each algorithm, [num_runs, num_updates].
      proxy: the exact optima for the proxies, [num_proxies, K]: once with the proxies'
        rewards, once with the true one.
      proxy_runs: the same for runs that were trained on the proxies, in any shape.
      prices: for each β, the point (KL, reward) of its exact optimum.
      title: heading.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
      ImportError: Matplotlib is missing; the message names the extra.
    """
    path = checks.path("path", path)
    checks.instance("runs", runs, Mapping, "{'PPO': Alignment(kl, reward)}")
    checks.instance("prices", prices, Mapping, "{0.1: (kl, reward)}")
    figures.check_names("gaps", gaps, runs)
    points = {"frontier": [frontier], "proxy": proxy, "proxy_runs": proxy_runs}
    for name, several in {**points, "runs": list(runs.values())}.items():
        for one in several if isinstance(several, tuple | list) else [several]:
            checks.instance(name, one, Alignment, "plotting.Alignment(kl, reward)")
    if len(proxy) != 2 or len(proxy_runs) != 2:
        raise ValueError(
            "proxy and proxy_runs must be pairs, with the proxies' rewards and with "
            f"the true one, got {len(proxy)} and {len(proxy_runs)}."
        )
    figure = figures.new(15, 4.8)
    figure.suptitle(title)
    pareto, learning, over = figure.subplots(1, 3)
    pareto.plot(*frontier, color="black", linewidth=1, label="exact frontier")
    for price, (kl, reward) in prices.items():
        pareto.plot(kl, reward, "+", color="black", markersize=12)
        text: Any = {"textcoords": "offset points", "fontsize": 8, "ha": "right"}
        pareto.annotate(f"β = {price:g}", (kl, reward), xytext=(-6, 6), **text)
    for i, (name, points) in enumerate(runs.items()):
        style: Any = {"marker": "osD^vP*X"[i % 8], "linestyle": "", "alpha": 0.6}
        pareto.plot(*points, color=figures.color(i), markersize=5, label=name, **style)
        gap = np.maximum(np.asarray(gaps[name]), 1e-5)
        updates = np.arange(1, gap.shape[1] + 1)
        learning.plot(
            updates, np.median(gap, axis=0), color=figures.color(i), label=name
        )
        ends = gap.min(axis=0), gap.max(axis=0)
        figures.band(learning, updates, *ends, color=figures.color(i), alpha=0.12)
    learning.axhline(0.02, color="black", linestyle=":", linewidth=1)
    for kind, color, exact, trained in zip(
        ("proxy", "true"),
        (figures.ORANGE, figures.BLUE),
        proxy,
        proxy_runs,
        strict=True,
    ):
        kl, reward = (np.asarray(x) for x in exact)
        over.plot(kl.T, reward.T, color=color, linewidth=0.6, alpha=0.5)
        style = {"color": color, "linewidth": 2.5}
        over.plot(kl.mean(0), reward.mean(0), label=f"{kind}, mean of optima", **style)
        points = (np.ravel(x) for x in trained)
        over.plot(*points, "o", color=color, alpha=0.4, label=f"{kind}, a run")
    pareto.set(title="reward against KL", ylabel="E[r]")
    pareto.margins(x=0.12)  # room for the prices' names
    over.set(title="learned rewards against the true one", ylabel="E[reward]")
    for axes in (pareto, over):
        axes.set_xlabel("KL(π‖π_ref), nats per sequence")
    learning.set(
        title="gap to the optimum, median and range",
        xlabel="updates",
        ylabel="(J(π*) − J(π)) / |J(π*)|",
        yscale="log",
    )
    for axes in (pareto, learning, over):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=figures.DPI)
