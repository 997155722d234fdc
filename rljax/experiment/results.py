"""What a sweep returns: runs by setting and seed, and statistics over seeds."""

import contextlib
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rljax import display
from rljax.evaluation import Evaluation, KeepBest
from rljax.experiment import statistics
from rljax.experiment.faults import Fault
from rljax.experiment.settings import label, text
from rljax.training import Measure, Metrics, TrainState
from rljax.types import Agent, EnvLike


class Procedure(NamedTuple):
    """How a sweep trained and judged its settings; the fields are those of `sweep`."""

    key: jax.Array
    num_updates: int
    """Asked for, of the setting with the shortest ones."""
    num_episodes: int
    max_steps: int
    greedy: bool
    measure: Measure | None
    keep_best: KeepBest | None
    devices: Sequence[Any] | None
    batch_size: int | None
    memory_budget: int | None


class Outcome(NamedTuple):
    """All runs of one setting; leaves [num_seeds, …], NumPy arrays or typed keys."""

    setting: dict[str, Any]
    """Values by name."""
    agent: Agent
    env: EnvLike
    train_state: TrainState
    """Where training stopped; of a frozen run, the state before it broke. A `Buffer`
    in it is empty: its content stays on the devices."""
    metrics: Metrics
    """[num_seeds, num_updates]; the i-th update ends after i × steps_per_update."""
    evaluation: Evaluation | None
    """[num_seeds, num_episodes] episodes after training, or None."""
    fault_updates: np.ndarray
    """[num_seeds] int32: the update that broke a run, −1 for none."""

    def __repr__(self) -> str:
        num_seeds, num_updates = self.metrics.num_episodes.shape
        return (
            f"Outcome({self.label}: {num_seeds} seeds × {num_updates} updates, scores "
            f"{np.array2string(self.scores, precision=4, threshold=8)})"
        )

    @property
    def label(self) -> str:
        """The setting in one line."""
        return label(self.setting)

    @property
    def agent_state(self) -> Any:
        """The agent states of all seeds, leaves [num_seeds, …]."""
        return self.train_state.agent_state

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one seed in one update."""
        return self.agent.rollout_plan.num_steps

    @property
    def num_cut(self) -> np.ndarray:
        """[num_seeds] integers: evaluation episodes that `max_steps` stopped before the
        environment did, whose returns are those of the steps until then. 0 without an
        evaluation."""
        if self.evaluation is None:
            return np.zeros(len(self.fault_updates), int)
        return (~np.asarray(self.evaluation.finished)).sum(axis=1)

    @property
    def scores(self) -> np.ndarray:
        """[num_seeds]: mean return of the evaluation or, without one, of the training
        episodes that ended in the last tenth of the updates (NaN if none did). A run
        that broke has −∞, so that it counts as worse than any other."""
        if self.evaluation is not None:
            scores = np.asarray(self.evaluation.episode_returns).mean(axis=1)
        elif self.metrics.num_episodes.shape[1]:
            _, windows = statistics.windowed_episode_returns(self.metrics, 10)
            scores = windows[:, -1]
        else:
            scores = np.full(len(self.fault_updates), np.nan)
        return np.where(self.fault_updates >= 0, -np.inf, scores)


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """Outcomes in the order of the axes, the last one varying fastest.

    `result[i]`, `result[label]` and `result[{"learning_rate": 1e-3}]` are one setting's
    `Outcome`; of its values, as many are needed as tell it from the others.
    """

    axes: dict[str, tuple[Any, ...]]
    """Values by name, as `settings.expand` gives them."""
    outcomes: tuple[Outcome, ...]
    num_updates: int
    """Updates done, fewer than asked for if the sweep was stopped; of the setting with
    the shortest ones, where steps are equal."""
    faults: tuple[Fault, ...]
    """Runs that were frozen."""
    procedure: Procedure | None = None
    """How it was done, for `selection.confirm`; None if not by `sweep`."""

    def __repr__(self) -> str:
        best = ""
        with contextlib.suppress(ImportError, ValueError):  # no SciPy, or no scores
            outcome = self.best()
            middle = statistics.interquartile_mean(outcome.scores)
            best = f", best: {outcome.label} with {middle:.4g}"
        count = f"{len(self.outcomes)} setting{'s' * (len(self.outcomes) > 1)}"
        broken = f", {len(self.faults)} runs broken" if self.faults else ""
        return (
            f"SweepResult({count} × {len(self.outcomes[0].fault_updates)} seeds × "
            f"{self.num_updates} updates{broken}{best})"
        )

    def _repr_html_(self) -> str | None:
        try:
            rows = self.summary()
        except ImportError:  # SciPy is an extra
            return None
        names = list(dict.fromkeys(n for o in self.outcomes for n in o.setting))
        heading = [*names, "IQM", "95 %", "worst", "best", "broken"]
        cells = [
            [
                *(text(row[name]) if name in row else "" for name in names),
                f"{row['iqm']:.4g}",
                f"[{row['iqm_low']:.4g}, {row['iqm_high']:.4g}]",
                f"{row['min']:.4g}",
                f"{row['max']:.4g}",
                row["num_broken"],
            ]
            for row in rows
        ]
        return display.table(heading, cells)

    def __getitem__(self, setting: int | str | Mapping[str, Any]) -> Outcome:
        if isinstance(setting, Mapping):
            return self._with_values(setting)
        if not isinstance(setting, str):
            try:
                return self.outcomes[setting]
            except (TypeError, IndexError) as error:
                count = len(self.outcomes)
                raise type(error)(
                    f"setting must be a label or an index below {count}, got "
                    f"{setting!r}."
                ) from None
        for outcome in self.outcomes:
            if outcome.label == setting:
                return outcome
        labels = [outcome.label for outcome in self.outcomes]
        near = difflib.get_close_matches(setting, labels, n=3, cutoff=0.0)
        raise KeyError(
            f"no setting {setting!r}; of {len(labels)}, the nearest are "
            f"{', '.join(map(repr, near))}."
        )

    def _with_values(self, values: Mapping[str, Any]) -> Outcome:
        """The one setting that has these values."""
        known = sorted({name for outcome in self.outcomes for name in outcome.setting})
        for name in values:
            if name not in known:
                raise KeyError(
                    f"no setting has {name!r}; they have {', '.join(known) or 'none'}."
                )
        found = [
            outcome
            for outcome in self.outcomes
            if all(_alike(outcome.setting.get(n), v) for n, v in values.items())
        ]
        if len(found) == 1:
            return found[0]
        if found:
            labels = ", ".join(repr(outcome.label) for outcome in found[:3])
            raise KeyError(
                f"{len(found)} settings have {label(values)!r}, such as {labels}. Name "
                "what tells them apart."
            )
        near = min(self.outcomes, key=lambda outcome: _distance(outcome, values))
        raise KeyError(
            f"no setting has {label(values)!r}; the nearest of {len(self.outcomes)} is "
            f"{near.label!r}."
        )

    @property
    def scores(self) -> np.ndarray:
        """[num_settings, num_seeds], see `Outcome.scores`."""
        return np.stack([outcome.scores for outcome in self.outcomes])

    def best(self) -> Outcome:
        """The setting whose scores have the highest interquartile mean.

        The setting is chosen by these scores, so they overestimate how good it is:
        `rljax.experiment.confirm` runs it again with other seeds.

        Raises:
          ValueError: a run has no score, because no episode ended in the last tenth of
            its training.
        """
        return best_of(self.outcomes)

    def summary(self, confidence: float = 0.95) -> list[dict[str, Any]]:
        """One row per setting: its values, and over seeds the interquartile mean of the
        scores with its bootstrap interval, the worst and best, how many runs broke, and
        how many evaluation episodes were cut."""
        statistics.check_confidence(confidence)
        rows = []
        for outcome in self.outcomes:
            scores = outcome.scores
            low = high = np.nan
            if not np.isnan(scores).any():
                low, high = statistics.stratified_interval(
                    lambda x: statistics.interquartile_mean(x[:, 0]),
                    scores[None],
                    confidence=confidence,
                    vectorized=True,
                )
            rows.append(
                {
                    **outcome.setting,
                    "iqm": float(statistics.interquartile_mean(scores)),
                    "iqm_low": float(low),
                    "iqm_high": float(high),
                    "min": float(scores.min()),
                    "max": float(scores.max()),
                    "num_broken": int((outcome.fault_updates >= 0).sum()),
                    "num_cut": int(outcome.num_cut.sum()),
                    "num_seeds": len(scores),
                }
            )
        return rows

    def task_scores(self) -> dict[str, np.ndarray]:
        """Scores [num_tasks, num_seeds] by the setting's label without the environment.

        The tasks are the alternatives of "env", in the same order for all labels, or a
        single task if there are none. The scores are what the functions of `statistics`
        over tasks take: `stratified_interval`, `probability_of_improvement` and
        `performance_profile`. Normalise them first if tasks differ in scale.

        Raises:
          ValueError: the labels were not all run on the same tasks.
        """
        scores: dict[str, dict[Any, np.ndarray]] = {}
        for outcome in self.outcomes:
            rest = {k: v for k, v in outcome.setting.items() if k != "env"}
            of_label = scores.setdefault(label(rest), {})
            of_label[outcome.setting.get("env")] = outcome.scores
        tasks = list(next(iter(scores.values())))
        for name, of_label in scores.items():
            if set(of_label) != set(tasks):
                raise ValueError(
                    f"{name!r} was run on {list(of_label)}, others on {tasks}: they "
                    "can't be compared over tasks."
                )
        return {
            name: np.stack([of_label[task] for task in tasks])
            for name, of_label in scores.items()
        }

    def to_xarray(self) -> Any:
        """An xarray.Dataset over the axes, "seed", "update" and "episode".

        Metrics that only some agents report are NaN for the others, as is all that is
        past a setting's last update (counts are 0 there). The coordinate "steps" says
        how many environment steps each update ends after. A metric with the name of an
        axis becomes "<name>_metric". Needs the extra `sweep`.
        """
        import xarray

        shape = tuple(len(values) for values in self.axes.values())

        def stack(get, *inner):
            arrays = [np.asarray(get(o)) for o in self.outcomes]
            if inner[-1:] == ("update",):
                arrays = [_padded(x, self.num_updates) for x in arrays]
            array = np.stack(arrays)
            return (*self.axes, *inner), array.reshape(*shape, *array.shape[1:])

        def agent_metric(name):
            def get(outcome):
                missing = np.full_like(outcome.metrics.episode_return, np.nan)
                return outcome.metrics.agent.get(name, missing)

            return stack(get, "seed", "update")

        data = {
            name: stack(lambda o, name=name: getattr(o.metrics, name), "seed", "update")
            for name in ("num_episodes", "episode_return", "episode_length")
        }
        names = sorted({name for o in self.outcomes for name in o.metrics.agent})
        data |= {
            f"{name}_metric" if name in self.axes else name: agent_metric(name)
            for name in names
        }
        data["score"] = stack(lambda o: o.scores, "seed")
        data["fault_update"] = stack(lambda o: o.fault_updates, "seed")
        if self.outcomes[0].evaluation is not None:
            data["evaluation_return"] = stack(
                lambda o: o.evaluation.episode_returns, "seed", "episode"
            )
            data["num_cut"] = stack(lambda o: o.num_cut, "seed")
        coords: dict[str, Any] = {
            name: [_coordinate(value) for value in values]
            for name, values in self.axes.items()
        }
        coords["update"] = np.arange(1, self.num_updates + 1)
        steps = stack(lambda o: coords["update"] * o.steps_per_update, "update")
        if len({outcome.steps_per_update for outcome in self.outcomes}) == 1:
            steps = "update", coords["update"] * self.outcomes[0].steps_per_update
        coords["steps"] = steps
        return xarray.Dataset(data, coords=coords)


def best_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The first with the highest interquartile mean; see `SweepResult.best`."""
    for outcome in outcomes:
        missing = np.flatnonzero(np.isnan(outcome.scores))
        if missing.size:
            raise ValueError(
                f"setting {outcome.label!r}, seed {missing[0]}, has no score: no "
                "episode ended in the last tenth of its training. Train longer, or "
                "sweep with num_episodes to evaluate."
            )
    middle = [statistics.interquartile_mean(outcome.scores) for outcome in outcomes]
    return outcomes[int(np.argmax(middle))]


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    """[..., length]: the array [..., n] with NaN, or 0 of integers, behind it."""
    missing = [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])]
    fill = np.nan if array.dtype.kind == "f" else 0
    return np.pad(array, missing, constant_values=fill)


def _alike(value: Any, wanted: Any) -> bool:
    """Whether two values of a setting are the same; numbers to 6 digits."""
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return bool(np.isclose(value, wanted, rtol=1e-6, atol=0))
    return text(value) == text(wanted)


def _distance(outcome: Outcome, values: Mapping[str, Any]) -> float:
    """How many values differ; of numbers, by how many factors of e (10 at most)."""
    total = 0.0
    for name, wanted in values.items():
        value = outcome.setting.get(name)
        if _alike(value, wanted):
            continue
        numbers = [x for x in (value, wanted) if isinstance(x, int | float) and x > 0]
        far = abs(np.log(numbers[0] / numbers[1])) if len(numbers) == 2 else 10.0
        total += min(float(far), 10.0)
    return total


def _coordinate(value: Any) -> Any:
    """Numbers and strings as they are, everything else as `settings.text` writes it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number or isinstance(value, str) else text(value)
