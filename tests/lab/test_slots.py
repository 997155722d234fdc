"""What the page shows of the bandits is what rljax says."""

import concurrent.futures
import functools
import types

import jax
import numpy as np
import pytest
from bokeh.document import Document

import rljax
from rljax.lab import bandits as lab
from rljax.lab import page, slots
from rljax.lab.banditpicture import BanditPicture, leader
from rljax.tabular import bandits, exploration
from tests.lab import controls

USUAL = slots.Settings()
ENV = rljax.GaussianBandit(5, 1.0, 0.5, 0.3)


def learner(rule):
    return rljax.QLearning(exploration=rule, step_size=None, discount=0.0)


AGENTS = {
    "ε-greedy": learner(exploration.EpsilonGreedy(0.1)),
    "softmax": learner(exploration.Softmax(0.5)),
    "UCB": learner(exploration.UCB(2.0)),
    "UCB1": learner(exploration.UCB1(1.6)),
    "KL-UCB": learner(exploration.KLUCB(0.3)),
    "Thompson": learner(exploration.ThompsonGaussian(1.0, 0.5, 0.3)),
    "gradient": rljax.GradientBandit(step_size=0.1, discount=0.0),
}


@functools.cache
def played(name, seed=7):
    """What `play_bandit` says: the agent's last state, and the pulls."""
    key = jax.random.key(seed)
    return bandits.play_bandit(AGENTS[name], ENV, key, num_pulls=slots.NUM_PULLS)


def game_at(num_pulls, *names, seed=7, settings=USUAL, arms="Gaussian"):
    game = slots.Game(arms, seed, settings)
    game.include(*names)
    game.advance(num_pulls)
    return game


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "UCB")) for n in AGENTS]
)
def test_what_is_seen_after_any_pull_is_play_bandits_bit_for_bit(name):
    state, pulls = played(name)
    actions, rewards = np.asarray(pulls.actions), np.asarray(pulls.rewards)
    game = game_at(0, name)
    assert game.counts(name).tolist() == [0] * 5
    assert game.last(name) is None and game.share_of_best(name) is None
    regret = np.asarray(pulls.expected_regret)
    for number in (1, 2, 10, 87, 400, 500):
        game.advance(number)
        n = game.num_pulls
        counts = np.bincount(actions[:n], minlength=5)
        np.testing.assert_array_equal(game.counts(name), counts)
        assert game.last(name) == (actions[n - 1], rewards[n - 1])
        assert game.regret(name) == regret[n - 1]
        assert game.share_of_best(name) == np.asarray(pulls.optimal)[:n].mean()
        assert game.total_reward(name) == rewards[:n].sum(dtype=float)
        estimates = game.estimates(name)
        assert np.isnan(estimates[counts == 0]).all()
        if name == "gradient":  # has preferences instead
            assert np.isnan(estimates).all()
            continue
        for arm in np.flatnonzero(counts):
            mean = rewards[:n][actions[:n] == arm].mean()
            np.testing.assert_allclose(estimates[arm], mean, rtol=1e-4, atol=1e-5)
    assert game.finished
    # Learned once more, by a program that need not round as the first.
    table = game.plays[name].estimates[-1]
    np.testing.assert_allclose(table, state.q_values[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(game.counts(name), state.counts[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_the_last_table_is_play_bandits_bit_for_bit(name):
    # As users compile; the fast tests ask for fewer optimisations.
    for seed in (0, 7):
        table = game_at(1000, name, seed=seed).plays[name].estimates[-1]
        np.testing.assert_array_equal(table, played(name, seed)[0].q_values[0])


def test_all_strategies_of_the_library_meet_the_bandit_of_the_seed():
    game = game_at(1000, "ε-greedy", "UCB")
    assert list(slots.STRATEGIES) == list(AGENTS)
    for name, agent in AGENTS.items():
        assert slots.STRATEGIES[name].build("Gaussian", USUAL) == agent
    means = game.means
    for name in ("ε-greedy", "UCB"):
        np.testing.assert_array_equal(game.plays[name].means, means)
        gaps = means.max() - means[game.plays[name].actions]
        assert game.regret(name) == pytest.approx(gaps.sum(), rel=1e-5)
    other = game_at(1, "UCB", seed=8)
    assert not np.array_equal(other.means, means)


def test_arms_that_pay_0_or_1_have_rules_of_their_own():
    build = {name: s.build("Bernoulli", USUAL) for name, s in slots.STRATEGIES.items()}
    assert build["KL-UCB"].exploration == exploration.KLUCB(None)
    assert build["Thompson"].exploration == exploration.ThompsonBernoulli()
    assert build["UCB1"].exploration == exploration.UCB1(1.0)
    game = game_at(1000, "KL-UCB", arms="Bernoulli")
    key = jax.random.key(7)
    _, pulls = bandits.play_bandit(
        build["KL-UCB"], rljax.BernoulliBandit(), key, num_pulls=slots.NUM_PULLS
    )
    np.testing.assert_array_equal(game.plays["KL-UCB"].rewards, pulls.rewards)
    assert set(np.unique(pulls.rewards)) == {0.0, 1.0}
    bound = bandits.lai_robbins(game.means)
    np.testing.assert_allclose(game.bound()[-1], bound * np.log(1000), rtol=1e-6)


def test_the_bound_is_that_of_the_bandit_that_is_seen():
    game = game_at(1, "UCB")
    slope = float(bandits.lai_robbins(game.means, noise_scale=0.3))
    assert slope > 0
    np.testing.assert_allclose(
        game.bound(), slope * np.log(np.arange(1, 1001)), rtol=1e-6
    )
    assert slots.Game().bound() is None


def test_another_setting_is_played_from_the_first_pull_and_compiles_nothing():
    game = game_at(300, "UCB", "KL-UCB")
    before = dict(game.plays)
    compiled = bandits._play_bandit._cache_size()
    game.change(USUAL._replace(c=0.0))
    assert bandits._play_bandit._cache_size() == compiled
    assert game.num_pulls == 300
    greedy = learner(exploration.UCB(0.0))
    _, pulls = bandits.play_bandit(greedy, ENV, jax.random.key(7), num_pulls=1000)
    np.testing.assert_array_equal(game.plays["UCB"].actions, pulls.actions)
    assert game.regret("UCB") == pulls.expected_regret[299]
    assert not np.array_equal(before["UCB"].actions, pulls.actions)
    assert game.plays["KL-UCB"] is before["KL-UCB"]
    game.change(USUAL)
    assert game.plays["UCB"] is before["UCB"]


def test_each_setting_changes_its_strategy():
    usual = {name: s.build("Gaussian", USUAL) for name, s in slots.STRATEGIES.items()}
    for setting, name in [
        ("epsilon", "ε-greedy"),
        ("temperature", "softmax"),
        ("c", "UCB"),
    ]:
        other = USUAL._replace(**{setting: 0.25})
        changed = {
            name
            for name, strategy in slots.STRATEGIES.items()
            if strategy.build("Gaussian", other) != usual[name]
        }
        assert changed == {name}
        assert "0.25" in slots.STRATEGIES[name].label("Gaussian", other)


def test_the_game_ends_at_the_last_pull():
    game = game_at(998, "UCB")
    assert not game.finished
    game.advance(10**9)
    assert game.finished and game.num_pulls == 1000


def test_bands_summarise_the_regret_of_other_bandits(monkeypatch):
    monkeypatch.setattr(slots, "NUM_OTHERS", 40)
    monkeypatch.setattr(slots, "NUM_PULLS", 50)
    few = {"UCB": slots.STRATEGIES["UCB"]}
    monkeypatch.setattr(slots, "STRATEGIES", few)
    bands = slots.others("Gaussian", USUAL)
    curves, _ = bandits.compare_bandits(
        {name: [AGENTS[name]] for name in few},
        ENV,
        jax.random.key(slots.SEED_OF_OTHERS),
        num_bandits=40,
        num_pulls=50,
    )
    for name, band in bands.items():
        regret = curves[name].expected_regret[:, 0].astype(float)
        np.testing.assert_array_equal(band.pulls, np.arange(1, 51))
        np.testing.assert_allclose(band.mean, regret.mean(0), rtol=1e-12)
        np.testing.assert_allclose(band.high, np.quantile(regret, 0.95, axis=0))
        np.testing.assert_allclose(band.low, np.quantile(regret, 0.05, axis=0))
        error = 1.96 * np.std(regret[:, -1], ddof=1) / np.sqrt(40)
        np.testing.assert_allclose(band.error, error)


# The tab, without a browser: what was compiled above is ready, and so are the bands.


def done(fn, *args):
    future = concurrent.futures.Future()
    future.set_result(fn(*args))
    return future


@pytest.fixture
def tab(monkeypatch):
    bands = {name: slots.Band(*(np.array([10.0, 1000.0]),) * 4, 1.5) for name in AGENTS}
    monkeypatch.setattr(
        lab, "_preparing", lambda arms, name: done(slots.watch, arms, name, 0, USUAL)
    )
    monkeypatch.setattr(lab, "_others", lambda *wanted: done(lambda: bands))
    return page.Page(Document(), [lab.BanditTab])._seen


def frames(tab, number, elapsed=0.04):
    for _ in range(number):
        if tab.playing:
            tab.frame(elapsed)


def regret_shown(tab, name):
    return np.asarray(tab.picture._curves[name].data["y"])


def test_nothing_is_computed_before_anything_plays(tab):
    assert not tab.game.plays
    assert tab._bands_of is None
    assert len(tab.picture._dots.data["x"]) == 0


@pytest.mark.slow
def test_playing_and_pausing_change_nothing(tab):
    tab.seed.value = 7
    tab.toggle()
    frames(tab, 100)
    tab.toggle()
    stood = tab.game.num_pulls
    # 50 pulls a second for 4 seconds.
    assert stood == pytest.approx(200, abs=2)
    shown = tab.numbers.text
    frames(tab, 20)
    assert tab.game.num_pulls == stood and tab.numbers.text == shown
    tab._one_pull()
    assert tab.game.num_pulls == stood + 1
    tab.speed.value = page.FASTEST
    tab.toggle()
    frames(tab, 50)
    assert not tab.playing and tab.game.finished  # pauses by itself
    for name in AGENTS:
        regret = played(name)[1].expected_regret
        np.testing.assert_array_equal(regret_shown(tab, name), regret)
    assert (
        f"{float(played('UCB')[1].expected_regret[-1]):,.1f}" in tab.picture.table.text
    )
    tab.toggle()
    assert not tab.playing and "pulls are done" in tab.notice.text


def test_reset_is_reset(tab):
    first = tab.numbers.text, tab.picture.table.text
    for _ in range(3):
        tab._one_pull()
    assert (tab.numbers.text, tab.picture.table.text) != first
    bands_before = tab._bands_of
    tab.reset()
    assert tab.game.num_pulls == 0
    assert tab.numbers.text == first[0]
    assert len(regret_shown(tab, "UCB")) == 0
    assert bands_before is not None


def test_true_means_are_sent_only_when_asked_for(tab):
    tab._one_pull()
    assert len(tab.picture._true.data["mean"]) == 0
    tab._reveal.active = True
    np.testing.assert_array_equal(tab.picture._true.data["mean"], tab.game.means)
    tab._reveal.active = False
    assert len(tab.picture._true.data["mean"]) == 0


def test_a_slider_acts_at_once_on_what_is_seen(tab):
    tab.seed.value = 7
    for _ in range(50):
        tab._one_pull()
    before = regret_shown(tab, "UCB")
    tab._sliders[2].value = 0.0
    greedy = learner(exploration.UCB(0.0))
    _, pulls = bandits.play_bandit(greedy, ENV, jax.random.key(7), num_pulls=1000)
    after = regret_shown(tab, "UCB")
    np.testing.assert_array_equal(after, pulls.expected_regret[:50])
    assert not np.array_equal(before, after)
    assert "c = 0<" in tab.picture.table.text


def test_strategies_bands_and_scale_are_shown_as_chosen(tab):
    picture = tab.picture
    tab._one_pull()
    assert len(picture._dots.data["x"]) == 5 * len(AGENTS)
    assert picture._bands["UCB"].data["high"].tolist() == [10.0, 1000.0]
    tab._strategies.active = [0, 2]
    assert set(picture._dots.data["color"]) == {page.ORANGE, page.BLUE}
    visible = {n for n, (one, _) in picture._curve_glyphs.items() if one.visible}
    assert visible == {"ε-greedy", "UCB"}
    bands = {n for n, glyphs in picture._band_glyphs.items() if glyphs[0].visible}
    assert bands == visible
    tab._others_shown.active = False
    assert not any(glyphs[0].visible for glyphs in picture._band_glyphs.values())
    linear, logarithmic = picture._regret_plots
    assert linear.visible and not logarithmic.visible
    tab._logarithmic.active = True
    assert logarithmic.visible and not linear.visible


def test_values_from_the_page_are_bounded(tab):
    controls.assert_all_can_be_moved(tab)
    for slider, name in zip(tab._sliders, USUAL._fields, strict=True):
        assert slider.value == getattr(USUAL, name)
        for wild, end in ((-1e30, slider.start), (1e30, slider.end)):
            slider.value = wild
            assert getattr(tab.game.settings, name) == end
    epsilon, temperature, c = tab._sliders
    # A page may send other bounds of a slider as well.
    epsilon.update(start=-5, end=1e9)
    epsilon.value = 7e8
    assert tab.game.settings.epsilon == 1.0
    temperature.update(start=-5)
    temperature.value = -1
    assert tab.game.settings.temperature == 0.01
    c.value = float("nan")
    assert tab.game.settings.c == 2.0
    c.value = 3  # an integer would compile anew
    assert isinstance(tab.game.settings.c, float)
    tab.seed.value = 10**30
    assert tab.game.seed == page.LARGEST_SEED
    tab._strategies.active = [0, 99, -1]
    assert tab._names() == ["ε-greedy"]
    tab._one_pull()
    assert tab.game.num_pulls == 1


def test_other_arms_start_anew(tab):
    tab._one_pull()
    tab._arms.value = "Bernoulli"
    assert tab.game.arms == "Bernoulli" and tab.game.num_pulls == 0
    assert not tab.game.plays
    assert tab.picture._arms_plot.y_range.end < 2
    assert "Bernoulli" in tab.picture.table.text


def test_strategies_join_as_their_threads_are_done(tab, monkeypatch):
    jobs = {name: concurrent.futures.Future() for name in AGENTS}
    monkeypatch.setattr(lab, "_preparing", lambda arms, name: jobs[name])
    tab._one_pull()
    tab.toggle()
    frames(tab, 10)
    assert tab.game.num_pulls == 0 and "Compiling" in tab.notice.text
    jobs["ε-greedy"].set_result(None)
    tab._collect()
    # The pull that was asked for.
    assert tab.game.num_pulls == 1 and set(tab.game.plays) == {"ε-greedy"}
    frames(tab, 25)
    for job in jobs.values():
        if not job.done():
            job.set_result(None)
    tab._collect()
    assert not tab.game.missing and "Compiling" not in tab.notice.text
    tab.toggle()
    assert len(regret_shown(tab, "Thompson")) == tab.game.num_pulls > 20


def test_a_job_wakes_the_page_once_however_often_it_is_asked_for(tab, monkeypatch):
    job, woken = concurrent.futures.Future(), []
    monkeypatch.setattr(lab, "_preparing", lambda arms, name: job)
    monkeypatch.setattr(tab, "_wake", lambda: woken.append(job.done()))
    for _ in range(3):
        tab._one_pull()
    assert woken == []
    job.set_result(None)
    assert woken == [True]
    tab._collect()
    assert not tab.game.missing and not tab._awaited


def test_a_page_that_is_awoken_takes_over_what_was_done(tab, monkeypatch):
    jobs = {name: concurrent.futures.Future() for name in AGENTS}
    monkeypatch.setattr(lab, "_preparing", lambda arms, name: jobs[name])
    tab._one_pull()
    jobs["UCB"].set_result(None)  # was not asked for: the first two come first
    assert tab.root.document.session_callbacks == []
    jobs["softmax"].set_result(None)
    (callback,) = tab.root.document.session_callbacks
    callback.callback()
    assert set(tab.game.plays) == {"softmax", "UCB"} and tab.game.num_pulls == 1


def test_what_a_thread_raises_is_said_on_the_page(tab, monkeypatch):
    failed = concurrent.futures.Future()
    failed.set_exception(ValueError("no such arm"))
    monkeypatch.setattr(lab, "_preparing", lambda arms, name: failed)
    tab.guarded(tab._one_pull)()
    assert "no such arm" in tab.notice.text


def test_a_recording_steps_and_shows_everything(tab):
    tab.seed.value = 7
    for n in (0, 5, 995):
        tab.step_to_record(n)
    assert tab.game.finished and not tab.game.missing
    np.testing.assert_array_equal(
        regret_shown(tab, "KL-UCB"), played("KL-UCB")[1].expected_regret
    )
    assert tab.picture._bands["UCB"].data["high"].tolist() == [10.0, 1000.0]


class Played:
    """A game in which all pulls are of one arm, and the regrets are made up."""

    arms = "Gaussian"

    def __init__(self, num_pulls, **regrets):
        self.num_pulls, self._regrets = num_pulls, regrets
        curve = np.linspace(0, 1, max(num_pulls, 1))
        self.plays = {
            name: types.SimpleNamespace(regret=regret * curve)
            for name, regret in regrets.items()
        }

    def regret(self, name):
        return self._regrets[name]

    def bound(self):
        return np.linspace(0, 3, slots.NUM_PULLS)

    def counts(self, name):
        return np.array([self.num_pulls, 0, 0, 0, 0])

    def estimates(self, name):
        return np.zeros(5)

    def last(self, name):
        return None


def test_the_axes_have_room_for_what_is_drawn_and_little_more(monkeypatch):
    picture = BanditPicture()
    monkeypatch.setattr(picture, "_rows", lambda *_: "")

    def ends(number, names, **regrets):
        game = Played(number, **regrets)
        picture.start(game)
        picture.draw(game, names, waiting=False)
        return picture._counts_plot.y_range.end, picture._regret_plots[0].y_range.end

    def is_near(end, highest):
        return highest < end < 1.2 * highest

    counts, regret = ends(200, ["UCB", "softmax"], UCB=37.0, softmax=20.0)
    assert is_near(counts, 200) and is_near(regret, 37)
    assert is_near(ends(200, ["softmax"], UCB=37.0, softmax=20.0)[1], 20)
    assert is_near(ends(200, ["UCB"], UCB=0.5)[1], 3)  # the bound, at its end
    high = np.array([1.0, 70.0])
    picture.show_bands({"UCB": slots.Band(*[high] * 4, 1.5)})
    assert is_near(ends(200, ["UCB", "softmax"], UCB=37.0, softmax=20.0)[1], 70)
    assert is_near(ends(200, ["softmax"], UCB=37.0, softmax=20.0)[1], 20)
    for number in (0, 1):  # the first pull is no bar to the top
        assert 2 <= ends(number, ["UCB"], UCB=0.0)[0] <= 20


def test_who_leads_is_said_once_there_is_something_to_lead_in():
    def game(missing, num_pulls):
        plays = {"a": None, "b": None}
        return types.SimpleNamespace(missing=missing, num_pulls=num_pulls, plays=plays)

    score = {"a": 1.0, "b": 2.0}.__getitem__
    assert leader(game([], 3), score, max) == "b"
    assert leader(game([], 3), score, min) == "a"
    assert leader(game([], 0), score, max) == "–"
    assert leader(game(["c"], 3), score, max) == "–"
