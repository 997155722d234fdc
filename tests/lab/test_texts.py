"""What the page shows of learning to write is what rljax says."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bokeh.document import Document

import rljax
from rljax.lab import page, rlhf, texts
from rljax.rlhf import networks, optimum, preferences, rewards
from tests.lab import controls

TABLE = networks.Table(3, 3)


def agent_of(name, problem, seed):
    """The agent of that name, as a user makes it."""
    one = {"network": TABLE, "reference": problem.reference, "rollout_length": 3}
    one |= {"kl_coef": 0.3, "learning_rate": 0.03}
    if name == "RLOO":
        return rljax.RLOO(num_envs=64, **one | {"learning_rate": 0.05})
    if name == "GRPO":
        return rljax.GRPO(num_envs=64, **one)
    if name == "GRPO, KL in the loss":
        return rljax.GRPO(num_envs=64, kl_in="loss", kl_estimator="k3", **one)
    if name == "PPO-KL":
        one["network"] = networks.Pair(TABLE, networks.Table(3, 3, outputs=1))
        one["reference"] = (problem.reference, jnp.zeros((1, 13, 1)))
        return rljax.PPOKL(num_envs=64, **one)
    pairs = preferences.sample_preferences(
        problem.env,
        problem.reference_log_probs,
        jax.random.fold_in(jax.random.key(seed), 3),
        num_pairs=5000,
    )
    return rljax.DPO(preferences=pairs, batch_size=128, **one)


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("name", texts.AGENTS)
def test_the_policy_is_that_of_train_bit_for_bit(name):
    writer = texts.Writer(name, seed=5)
    start = writer.state.agent_state.params
    for number in (1, 1, 10, 28):  # single updates, pauses and longer spans
        writer.advance(number)
        writer.judge()
    agent = agent_of(name, writer.problem, 5)
    key = jax.random.key(5)
    state, metrics = rljax.train(
        agent, writer.env, key, num_updates=40, measure=optimum.measure
    )
    assert_same(writer.state, state)
    assert writer.num_updates == 40
    assert not np.array_equal(jax.tree.leaves(start)[0], jax.tree.leaves(state)[0])
    exact = writer.judge().exact
    for field, value in exact._asdict().items():
        measured = metrics.agent["exact_" + field.removeprefix("expected_")][-1]
        np.testing.assert_allclose(value, measured, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", texts.AGENTS)
def test_all_start_at_the_reference(name):
    writer = texts.Writer(name, seed=3)
    standing = writer.judge()
    reference = np.exp(writer.problem.reference_log_probs)[0]
    np.testing.assert_allclose(standing.probs, reference, rtol=1e-5)
    assert writer.settings.step_size == texts.AGENTS[name].step_size
    assert abs(standing.exact.kl) < 1e-6
    mean = reference @ np.asarray(writer.problem.rewards)[0]
    assert writer.reference_objective == pytest.approx(mean, abs=1e-5)
    assert standing.exact.objective == pytest.approx(mean, abs=1e-5)


def test_the_problem_is_of_the_seed():
    one, other = (texts.draw_problem(jax.random.key(seed)) for seed in (0, 1))
    key_reward, key_reference = jax.random.split(
        jax.random.fold_in(jax.random.key(1), 2)
    )
    reward = rewards.TableReward.random(3, 3, key_reward).table
    logits = 0.7 * jax.random.normal(key_reference, (1, 13, 3))
    np.testing.assert_allclose(other.rewards, reward, rtol=1e-6)
    np.testing.assert_allclose(other.reference, logits, rtol=1e-6)
    assert not np.allclose(one.rewards, other.rewards)
    assert texts.names()[5] == "abc" and len(texts.names()) == 27


@pytest.mark.parametrize("price", [0.02, 0.3, 2.0])
def test_what_is_orange_is_the_optimum(price):
    """By hand, and by dynamic programming over the prefixes."""
    writer = texts.Writer(seed=2, settings=texts.Settings(price))
    problem = writer.problem
    standing = writer.judge()
    log_reference = np.asarray(problem.reference_log_probs, float)[0]
    reward = np.asarray(problem.rewards, float)[0]
    tilted = np.exp(log_reference + (reward - reward.max()) / price)
    best = tilted / tilted.sum()
    np.testing.assert_allclose(standing.optimal_probs, best, rtol=1e-4, atol=1e-7)
    policy = np.full((40, 3), 1 / 3)
    policy[:13] = jax.nn.softmax(problem.reference[0])
    plan = optimum.soft_value_iteration(writer.env.to_mdp(), jnp.asarray(policy), price)
    assert standing.exact.optimum == pytest.approx(float(plan.objective), rel=1e-4)
    assert standing.best.objective == pytest.approx(float(plan.objective), rel=1e-4)
    # It is on the frontier, which begins at the reference and is nowhere steeper.
    kl, earned = (np.asarray(x, float) for x in problem[-2:])
    at = np.interp(standing.best.kl, kl, earned)
    assert at == pytest.approx(standing.best.expected_reward, abs=2e-3)
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert earned[0] == pytest.approx(np.exp(log_reference) @ reward, abs=1e-5)
    assert (np.diff(kl) > -1e-5).all() and (np.diff(earned) > -1e-5).all()
    assert earned[-1] == pytest.approx(reward.max(), abs=1e-3)


def test_a_policy_learns_below_the_frontier():
    writer = texts.Writer(seed=1)
    before = writer.judge().exact
    for _ in range(20):
        writer.advance(10)
        writer.judge()
    after = writer.judge().exact
    assert after.gap < 0.02 * before.gap
    kl, reward = writer.history.way()
    frontier = np.interp(kl, *map(np.asarray, writer.problem[-2:]))
    assert (reward <= frontier + 2e-3).all()
    assert kl[-1] == float(after.kl) and abs(kl[0]) < 1e-6


def test_settings_act_at_once_and_compile_nothing():
    writer, other = texts.Writer(seed=4), texts.Writer(seed=4)
    writer.advance(20)
    before = writer.judge()
    sizes = [p._cache_size() for p in (rljax.training._train_for, texts._judge)]
    writer.change(texts.Settings(0.05, 0.01))
    after = writer.judge()
    assert after.exact.optimum > before.exact.optimum + 0.1
    np.testing.assert_array_equal(after.probs, before.probs)
    assert after.optimal_probs.max() > before.optimal_probs.max() + 0.05
    assert writer.num_updates == 20
    other.advance(20)
    other.change(texts.Settings(0.05, 0.05))
    for one in (writer, other):
        one.advance(1)
    assert not np.array_equal(*(w.state.agent_state.params for w in (writer, other)))
    assert float(writer.state.agent_state.kl_coef) == np.float32(0.05)
    assert sizes == [p._cache_size() for p in (rljax.training._train_for, texts._judge)]


@pytest.mark.slow
def test_other_seeds_learn_along():
    writer = texts.Writer(seed=6, others=True)
    alone = texts.Writer(seed=6)
    for number in (3, 57):
        writer.advance(number)
    alone.advance(60)
    assert_same(writer.state, alone.state)
    standing = writer.judge()
    keys = jax.random.split(jax.random.fold_in(jax.random.key(6), 1), texts.NUM_OTHERS)
    state, _ = rljax.train(writer.agent, writer.env, keys[3], num_updates=60)
    log_probs = optimum.log_probs_of(writer.agent, state.agent_state, writer.env)
    known = (writer.problem.reference_log_probs, writer.problem.rewards, 0.3)
    expected = optimum.sequence_objective(log_probs, *known)
    # float32, and sums in another order, 60 times over
    for found, value in zip(standing.others, expected, strict=True):
        assert found.shape == (texts.NUM_OTHERS,)
        np.testing.assert_allclose(found[3], value, atol=2e-3)
    row = writer.history.rows[-1]
    assert row.low < row.middle < row.high
    assert row.middle == pytest.approx(np.median(standing.others.objective))


def test_a_row_has_the_quantiles_of_the_others_alone(monkeypatch):
    def judge(problem, log_probs, price):
        """−99 for π* and the policy; for the others 0, 1, … 100, in no order."""
        others = np.random.default_rng(0).permutation(101)
        scores = np.array([-99.0, -99.0, *others])
        return log_probs[0], optimum.SequenceObjective(*[scores] * 6)

    nobody = np.zeros((101, 1, 27))
    monkeypatch.setattr(texts, "_judge", judge)
    monkeypatch.setattr(texts, "_log_probs_of_all", lambda *_: nobody)
    writer = texts.Writer()
    writer.judge()
    assert np.isnan(writer.history.rows[-1][-3:]).all()
    writer.others = writer.state
    assert writer.judge().others.objective.shape == (101,)
    assert writer.history.rows[-1].objective == -99
    np.testing.assert_allclose(writer.history.rows[-1][-3:], [5, 50, 95])


def row_of(num_updates, kl=0.0, optimum=1.0):
    return texts.Row(num_updates, 0.0, optimum, kl, 0.0, np.nan, np.nan, np.nan)


def test_a_history_is_bounded_and_ends_with_the_newest():
    history = texts.History(most=50)
    for number in range(5000):
        history.add(row_of(number, kl=number / 100))
        assert len(history.rows) <= 50
        assert history.rows[-1].num_updates == number
    at = history.columns()["num_updates"]
    assert at[0] == 0 and (np.diff(at) > 0).all()
    assert np.diff(at[:-1]).max() <= 4 * np.diff(at[:-1]).min()
    kl = history.way()[0]
    assert len(kl) == 51 and kl[-1] == 49.99 and np.allclose(np.diff(kl[:-1]), 0.01)


def test_a_history_shows_that_the_price_was_changed():
    history = texts.History()
    for number in (0, 1, 1, 1, 2):
        history.add(row_of(number, optimum=float(len(history.rows))))
    columns = history.columns()
    assert columns["num_updates"].tolist() == [0, 1, 1, 2]
    assert columns["optimum"].tolist() == [0.0, 1.0, 3.0, 3.0]


# The tab.


@pytest.fixture
def tab():
    return page.Page(Document(), [rlhf.AlignmentTab])._seen


def shown(tab):
    """The readouts by name."""
    found = re.findall(r"<b>(.*?)</b><span>(.*?)</span>", tab.numbers.text)
    return {name: value for value, name in found}


def test_the_tab_shows_what_the_writer_says(tab):
    assert shown(tab)["updates"] == "0"
    assert shown(tab)["of the gap to J(π*) is left"] == "100.00 %"
    tab.toggle()
    for _ in range(10):
        tab.frame(0.1)
    tab.toggle()
    same = texts.Writer(seed=0)
    same.advance(10)
    standing = same.judge()
    assert_same(tab.writer.state, same.state)
    assert shown(tab)["updates"] == "10"  # at 10 a second
    assert shown(tab)["KL(π‖π_ref), nats"] == f"{standing.exact.kl:.3f}"
    bars = tab._bars.data
    order = [texts.names().index(name) for name in bars["name"]]
    np.testing.assert_array_equal(bars["policy"], standing.probs[order])
    np.testing.assert_array_equal(bars["optimal"], standing.optimal_probs[order])
    assert (np.diff(bars["reward"]) <= 0).all()
    np.testing.assert_allclose(bars["reference"].sum(), 1, rtol=1e-5)
    assert tab._history.data["objective"][-1] == float(standing.exact.objective)
    assert tab._points["policy"].data["kl"] == standing.exact.kl
    # The dotted line touches the frontier where π* is.
    line, best = tab._points["equal"].data, tab._points["optimum"].data
    height = np.interp(best["kl"], line["kl"], line["reward"])
    np.testing.assert_allclose(height, best["reward"], rtol=1e-4)
    tab.reset()
    assert shown(tab)["updates"] == "0" and len(tab._history.data["low"]) == 1
    assert_same(tab.writer.state, texts.Writer(seed=0).state)


def test_sliders_move_the_optimum_and_not_the_policy(tab):
    tab._one_update()
    before, policy = shown(tab), tab._bars.data["policy"]
    tab._kl_coef.value = -1.0
    after = shown(tab)
    assert tab.writer.settings.kl_coef == 0.1
    assert after["J(π*)"] > before["J(π*)"]
    assert after["updates"] == "1" and after["J(π_ref)"] == before["J(π_ref)"]
    np.testing.assert_array_equal(tab._bars.data["policy"], policy)
    tab._step_size.value = -2.0
    assert tab.writer.agent.learning_rate == 0.01
    assert shown(tab)["updates"] == "1"


def test_choices_start_anew(tab):
    tab._one_update()
    tab._agent.value = "GRPO"
    assert shown(tab)["updates"] == "0"
    assert isinstance(tab.writer.agent, rljax.GRPO)
    assert tab.writer.settings.step_size == 0.03
    rewards = tab._bars.data["reward"]
    tab.seed.value = 7
    assert not np.allclose(tab._bars.data["reward"], rewards)
    assert "updates a second" in tab.speed.title


def test_the_box_says_whether_others_learn_along(tab, monkeypatch):
    asked, writer = [], texts.Writer

    def alone(*arguments, others):
        asked.append(others)
        return writer(*arguments)

    monkeypatch.setattr(texts, "Writer", alone)
    assert tab._others.label == "16 other seeds learn along"
    tab._one_update()
    tab._others.active = True
    assert shown(tab)["updates"] == "0"  # it starts anew
    tab._others.active = False
    assert asked == [True, False]


@pytest.mark.slow
def test_the_others_are_shown_if_asked_for(tab):
    assert not any(item.visible for item in tab._of_others)
    assert len(tab._points["others"].data["kl"]) == 0
    tab._others.active = True
    tab._one_update()
    assert all(item.visible for item in tab._of_others)
    assert len(tab._points["others"].data["kl"]) == texts.NUM_OTHERS
    assert np.isfinite(tab._history.data["middle"]).all()


def test_sliders_go_as_far_as_what_they_set(tab):
    controls.assert_all_can_be_moved(tab)
    for slider, name in ((tab._kl_coef, "kl_coef"), (tab._step_size, "step_size")):
        for wild, end in ((-1e300, slider.start), (1e300, slider.end)):
            slider.value = wild
            assert getattr(tab.writer.settings, name) == pytest.approx(10**end, 0.01)


@pytest.mark.parametrize("value", [1e300, -1e300, float("nan"), float("inf")])
def test_what_a_page_sends_is_bounded(tab, value):
    tab._kl_coef.value = value
    tab._step_size.value = value
    price, step_size = tab.writer.settings
    assert 0.01 <= price <= 3.0
    assert 0.001 <= step_size <= 1.0
    tab._agent.value = "<script>"
    assert isinstance(tab.writer.agent, rljax.RLOO)
    assert np.isfinite(tab.writer.judge().exact.objective)
    assert tab.notice.text == ""
