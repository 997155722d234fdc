"""The tab of bandits: strategies side by side on the same five slot machines."""

import functools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import Checkbox, CheckboxButtonGroup, Select, Slider

from rljax.lab import page, slots
from rljax.lab.banditpicture import LOOKS, WIDTH, BanditPicture, leader

NUM_THREADS = 2
POOL = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="rljax-lab-bandits")
"""Compiles while the page stays alive. No more is asked for than it has threads, as a
server that is stopped waits for what was asked for."""
# Of the settings, in their order: name, bounds and step.
SLIDERS = (
    ("ε of ε-greedy", 0.0, 1.0, 0.01),
    ("τ of softmax", 0.01, 2.0, 0.01),
    ("c of UCB", 0.0, 4.0, 0.05),
)
FINISHED = f"All {slots.NUM_PULLS:,} pulls are done: reset, or take another seed."
COMPILING = "Compiling the strategies; they join as they are ready …"
EXPLAINED = (
    "<small>A slider plays the same pulls again from the first, so what is seen is "
    "what its setting would have brought. All strategies meet the same noise. The "
    "gradient bandit learns preferences, no estimates.</small>"
)


@functools.cache
def _preparing(arms: str, name: str) -> Future:
    """Compiles a strategy in a thread, once for all visitors."""
    return POOL.submit(slots.watch, arms, name, 0, slots.Settings())


@functools.lru_cache(maxsize=64)
def _others(arms: str, settings: slots.Settings) -> Future:
    """The bands at these settings, computed in a thread, for all visitors."""
    return POOL.submit(slots.others, arms, settings)


class BanditTab(page.Tab):
    """Strategies side by side on five slot machines."""

    title = "Five slot machines"

    def __init__(self):
        super().__init__({"one pull": self._one_pull}, unit="pulls")
        self._job: Future | None = None
        self._awaited: set[Future] = set()
        self._bands_of: Any = None
        self.picture = BanditPicture()
        self._make_controls()
        self._lay_out()
        self._choose()
        self.reset()

    def reset(self) -> None:
        """Starts anew, on the bandit of the seed."""
        self.say()
        arms = page.chosen(self._arms.value, list(slots.ARMS))
        self.game = slots.Game(arms, self.number_of_seed(), self._settings())
        self._started, self._owed = False, 0
        self._draw_anew()

    def advance(self, num_steps: int) -> None:
        """Goes on by so many pulls, once a strategy is compiled."""
        self._start()
        if self.game.plays:
            self.game.advance(num_steps)
        if self.game.finished:
            self.play(False)

    def toggle(self) -> None:
        """Plays, or pauses; after the last pull there is nothing to play."""
        if self.game.finished:
            self.say(FINISHED)
        else:
            super().toggle()

    def step_to_record(self, num_steps: int) -> None:
        """Takes so many pulls and draws everything, with all that is shown."""
        if self.game.missing:
            self.game.include()
            self._draw_anew()
        if self._others_shown.active:
            _others(self.game.arms, self.game.settings).result()
        self._start()
        super().step_to_record(num_steps)

    def draw(self) -> None:
        """The arms as the strategies see them, the curves and the numbers."""
        game = self.game
        waiting = self._started and bool(self._others_shown.active)
        self.picture.draw(game, self._names(), waiting)
        self.numbers.text = page.readouts(
            {
                f"pull of {slots.NUM_PULLS:,}": f"{game.num_pulls:,}",
                "most reward so far": leader(game, game.total_reward, max),
                "least expected regret so far": leader(game, game.regret, min),
            }
        )

    def _draw_anew(self):
        """Everything, where more has changed than that pulls were added."""
        if self._bands_of != (self.game.arms, self.game.settings):
            self._bands_of = None
            self.picture.show_bands({})
        self.picture.start(self.game)
        self.picture.show_means(self.game.means if self._reveal.active else None)
        self.draw()

    # The strategies and the bands come from threads.

    def _start(self):
        """Brings the strategies into the game, and the bands."""
        self._started = True
        self._collect()

    def _collect(self):
        """Takes over what the threads have done, and asks for what is missing."""
        game, missing = self.game, self.game.missing
        if not self._started:
            return
        waiting = 0
        for name in missing:
            if self._is_done(_preparing(game.arms, name)):
                game.include(name)
            elif (waiting := waiting + 1) == NUM_THREADS:
                break
        if missing:
            self.say(COMPILING if game.missing else "")
        if len(game.missing) < len(missing):
            self._draw_anew()
        if self._owed and game.plays:
            game.advance(self._owed)
            self._owed = 0
            self.draw()
        if self._others_shown.active and not game.missing:
            self._collect_bands((game.arms, game.settings))

    def _collect_bands(self, wanted: tuple[str, slots.Settings]):
        """One at a time, however fast a slider moves."""
        if self._bands_of == wanted or not (self._job is None or self._job.done()):
            return
        self._job = _others(*wanted)
        if self._is_done(self._job):
            self._bands_of = wanted
            self.picture.show_bands(self._job.result())
            self.draw()

    def _is_done(self, job: Future) -> bool:
        """Whether a thread has done its job; if not, the job will say so once."""
        if job.done():
            self._awaited.discard(job)
            job.result()  # raises what the thread raised
            return True
        if job not in self._awaited:
            self._awaited.add(job)
            job.add_done_callback(lambda _: self._wake())
        return False

    def _wake(self):
        document = self.root.document
        if document is not None:
            document.add_next_tick_callback(self.guarded(self._collect))

    # Controls.

    def _settings(self) -> slots.Settings:
        return slots.Settings(
            *(
                float(page.bounded(slider.value, low, high, usual))
                for slider, (_, low, high, _), usual in zip(
                    self._sliders, SLIDERS, slots.Settings(), strict=True
                )
            )
        )

    def _names(self) -> list[str]:
        """The strategies that are to be seen."""
        active = self._strategies.active
        active = active if isinstance(active, list) else []
        return [name for i, name in enumerate(LOOKS) if i in active]

    def _one_pull(self):
        self._owed += 1
        self._start()

    def _change(self):
        """Another setting: the same pulls again, up to where the game stands."""
        self.game.change(self._settings())
        self._draw_anew()
        self._collect()

    def _choose(self):
        """What is to be seen."""
        self.picture.choose(
            self._names(),
            bands=bool(self._others_shown.active),
            logarithmic=bool(self._logarithmic.active),
        )

    def _choose_and_draw(self):
        self._choose()
        self._collect()
        self.draw()

    def _choose_means(self):
        if self._reveal.active:
            self._start()
        self.picture.show_means(self.game.means if self._reveal.active else None)

    def _make_controls(self):
        style: Any = {"stylesheets": [page.sheet()]}
        self._arms = Select(
            title="arms", options=list(slots.ARMS), value="Gaussian", width=110, **style
        )
        page.on_change(self._arms, "value", self.guarded(self.reset))
        self._sliders = [
            Slider(
                title=title,
                start=low,
                end=high,
                step=step,
                value=value,
                width=185,
                **style,
            )
            for (title, low, high, step), value in zip(
                SLIDERS, slots.Settings(), strict=True
            )
        ]
        for slider in self._sliders:
            page.on_change(slider, "value", self.guarded(self._change))
        self._reveal = Checkbox(label="show the true means", active=False, **style)
        page.on_change(self._reveal, "active", self.guarded(self._choose_means))
        self._others_shown = Checkbox(
            label=f"{slots.NUM_OTHERS:,} other bandits", active=True, **style
        )
        self._logarithmic = Checkbox(label="logarithmic regret", active=False, **style)
        self._strategies = CheckboxButtonGroup(
            labels=[f"{look.sign} {name}" for name, look in LOOKS.items()],
            active=list(range(len(LOOKS))),
            width=WIDTH,
            **style,
        )
        for chooser in (self._others_shown, self._logarithmic, self._strategies):
            page.on_change(chooser, "active", self.guarded(self._choose_and_draw))

    def _lay_out(self):
        self.numbers.width, self.notice.width = WIDTH, 440
        caption = page.text(EXPLAINED, width=WIDTH - 20)
        seen = row(column(self.picture.left, caption), self.picture.right)
        self.shown = [seen]
        boxes = row(self._reveal, self._others_shown, self._logarithmic, spacing=18)
        self.root.children = [
            row(self.buttons, self.speed, self.seed, self._arms, self.notice),
            row(*self._sliders, column(boxes, margin=(14, 0, 0, 20))),
            row(self.numbers, self._strategies),
            seen,
        ]
