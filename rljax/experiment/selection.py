"""Selection apart from judgement: settings are chosen on some seeds, judged on others.

The best of many noisy scores is partly the luckiest. What it promises is therefore too
high, the more so the more settings were tried and the fewer seeds each had.

    result = rljax.sweep(agent, env, key, num_seeds=5, settings=grid, num_steps=100_000)
    rljax.experiment.confirm(result, num_seeds=30)  # the score to report

Source: Patterson, Neumann, White and White (2024), Empirical Design in Reinforcement
Learning, JMLR 25.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rljax import checks, display, random
from rljax.experiment import statistics
from rljax.experiment.reports import Report
from rljax.experiment.results import Outcome, SweepResult, best_of
from rljax.experiment.settings import label, text
from rljax.experiment.sweep import sweep

_ALTERNATIVES = ("agent", "env")


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """The chosen settings: on the seeds that chose them, and on fresh ones."""

    tuned: tuple[Outcome, ...]
    """Each chosen setting in the sweep that chose it."""
    result: SweepResult
    """The same settings, in the same order, trained and evaluated on fresh seeds."""

    @property
    def overestimation(self) -> np.ndarray:
        """[num_chosen]: by how much the interquartile mean was higher on the seeds that
        chose the setting than on the fresh ones."""
        return np.array(
            [
                statistics.interquartile_mean(before.scores)
                - statistics.interquartile_mean(after.scores)
                for before, after in zip(self.tuned, self.result.outcomes, strict=True)
            ]
        )

    def summary(self, confidence: float = 0.95) -> list[dict[str, Any]]:
        """One row per chosen setting: that of `SweepResult.summary` on the fresh seeds,
        with tuned_iqm, what it promised, tuned_seeds, and the overestimation."""
        rows = self.result.summary(confidence)
        for row, before, above in zip(
            rows, self.tuned, self.overestimation, strict=True
        ):
            row["tuned_iqm"] = float(statistics.interquartile_mean(before.scores))
            row["tuned_seeds"] = len(before.scores)
            row["overestimation"] = float(above)
        return rows

    def __repr__(self) -> str:
        lines = [
            f"  {outcome.label}: {row['iqm']:.4g} [{row['iqm_low']:.4g}, "
            f"{row['iqm_high']:.4g}], promised {row['tuned_iqm']:.4g}"
            for outcome, row in zip(self.result.outcomes, self.summary(), strict=True)
        ]
        seeds = len(self.result.outcomes[0].fault_updates)
        heading = f"Confirmation on {seeds} fresh seeds, IQM and 95 % interval:"
        return "\n".join([heading, *lines])

    def _repr_html_(self) -> str:
        heading = ["chosen", "IQM", "95 %", "promised", "overestimation"]
        cells = [
            [
                outcome.label,
                f"{row['iqm']:.4g}",
                f"[{row['iqm_low']:.4g}, {row['iqm_high']:.4g}]",
                f"{row['tuned_iqm']:.4g}",
                f"{row['overestimation']:.4g}",
            ]
            for outcome, row in zip(self.result.outcomes, self.summary(), strict=True)
        ]
        return display.table(heading, cells)


def confirm(
    result: SweepResult,
    *,
    num_seeds: int,
    key: jax.Array | None = None,
    per: Sequence[str] | None = None,
    callbacks: Sequence[Callable[[Report], Any]] = (),
) -> Confirmation:
    """Trains the best settings of a sweep again, on seeds without a part in the choice.

    The best setting is that with the highest interquartile mean of the scores. It is
    trained and evaluated as in the sweep. All chosen settings share the fresh keys.

    Args:
      result: of `sweep`, of all the updates that it was asked for.
      num_seeds: fresh runs of each chosen setting; `statistics.seeds_to_detect` says
        how many tell two agents apart.
      key: random key, another than the sweep's; None: one derived from the sweep's, so
        that a second call gives the same runs.
      per: names of a setting, such as ["agent", "env.gravity"]; for each combination of
        their values one setting is chosen. None: "agent" and "env", where the sweep has
        alternatives of these; [] chooses a single one.
      callbacks: as of `sweep`, for the runs of one chosen setting after the other.

    Returns:
      The chosen settings before and after.

    Raises:
      TypeError, ValueError: an argument is wrong, a run of the sweep has no score, or
        the sweep was stopped early; the message says which.
    """
    checks.instance("result", result, SweepResult, "rljax.sweep returns")
    num_seeds = checks.integer("num_seeds", num_seeds, minimum=1)
    how = result.procedure
    if how is None:
        raise ValueError("result must be what rljax.sweep returned, as it says how.")
    if result.num_updates < how.num_updates:
        raise ValueError(
            f"result must be of all {how.num_updates} updates, but the sweep was "
            f"stopped after {result.num_updates}. Go on with resume=True."
        )
    if key is None:
        key = jax.random.fold_in(how.key, 2)  # a sweep splits its key in 0 and 1
    else:
        checks.key(key)
        if np.array_equal(_words(key), _words(how.key)):
            raise ValueError(
                "key must be another than that of the sweep, whose seeds chose the "
                "settings. Leave it out for one that is."
            )
    tuned, outcomes, faults = [], [], []
    for group in _groups(result, per).values():
        best = best_of(group)
        fresh = sweep(
            best.agent,
            best.env,
            key,
            num_seeds=num_seeds,
            num_updates=best.metrics.num_episodes.shape[1],
            callbacks=callbacks,
            **{
                name: value
                for name, value in how._asdict().items()
                if name not in ("key", "num_updates")
            },
        )
        tuned.append(best)
        outcomes.append(fresh.outcomes[0]._replace(setting=best.setting))
        faults += [fault._replace(setting=best.label) for fault in fresh.faults]
    labels = tuple(outcome.label for outcome in outcomes)
    num_updates = max(outcome.metrics.num_episodes.shape[1] for outcome in outcomes)
    fresh = SweepResult(
        {"setting": labels}, tuple(outcomes), num_updates, tuple(faults)
    )
    return Confirmation(tuple(tuned), fresh)


class Sensitivity(NamedTuple):
    """Scores over the K values of one field; arrays [K]."""

    values: tuple[Any, ...]
    """The field's values, in the order of the sweep."""
    iqm: np.ndarray
    """Interquartile mean over seeds, of the best of the other fields' values."""
    low: np.ndarray
    """Lower end of its 95 % bootstrap interval."""
    high: np.ndarray
    """Upper end."""
    labels: tuple[str, ...]
    """Of the setting that is the best one at each value."""


def sensitivity(
    result: SweepResult, name: str, *, per: Sequence[str] | None = None
) -> dict[str, Sensitivity]:
    """How scores depend on one field of a sweep, all others at their best.

    At each value of the field, of the settings that have it the one with the highest
    interquartile mean counts. A curve that is high over a wide range belongs to an
    agent that is easy to use.

    Args:
      result: of a sweep over the field, and perhaps over others.
      name: of the field, such as "learning_rate".
      per: names of a setting; a curve for each combination of their values. None:
        "agent" and "env", where the sweep has alternatives of these.

    Returns:
      The curves by the label of these values, "" if there is one curve.

    Raises:
      TypeError, ValueError: an argument is wrong, or a run has no score; the message
        says which.
    """
    checks.instance("result", result, SweepResult, "rljax.sweep returns")
    known = _names(result)
    if name not in known:
        raise ValueError(
            f"name must be one of {', '.join(known) or 'none'}, got {name!r}."
        )
    curves = {}
    for group_label, group in _groups(result, per).items():
        by_value: dict[str, list[Outcome]] = {}
        for outcome in group:
            if name in outcome.setting:
                by_value.setdefault(text(outcome.setting[name]), []).append(outcome)
        if not by_value:  # as in a list of settings some have other fields
            continue
        best = [best_of(outcomes) for outcomes in by_value.values()]
        rows = SweepResult({}, tuple(best), 0, ()).summary()
        curves[group_label] = Sensitivity(
            values=tuple(outcome.setting[name] for outcome in best),
            iqm=np.array([row["iqm"] for row in rows]),
            low=np.array([row["iqm_low"] for row in rows]),
            high=np.array([row["iqm_high"] for row in rows]),
            labels=tuple(outcome.label for outcome in best),
        )
    return curves


def _names(result: SweepResult) -> list[str]:
    return list(dict.fromkeys(n for o in result.outcomes for n in o.setting))


def _groups(result: SweepResult, per: Sequence[str] | None) -> dict[str, list[Outcome]]:
    """Outcomes by the label of the values that they have of `per`."""
    known = _names(result)
    if isinstance(per, str):
        raise TypeError(f"per must be a list of names, such as [{per!r}], got {per!r}.")
    for name in per or ():
        if name not in known:
            raise ValueError(
                f"per must name fields of the settings, {', '.join(known) or 'none'}, "
                f"got {name!r}."
            )
    if per is None:
        per = [name for name in _ALTERNATIVES if name in known]
    groups: dict[str, list[Outcome]] = {}
    for outcome in result.outcomes:
        values = {name: outcome.setting.get(name) for name in per}
        groups.setdefault(label(values) if values else "", []).append(outcome)
    return groups


def _words(key: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(key) if random.is_typed_key(key) else key)
