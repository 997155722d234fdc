"""What the text claims: each experiment runs, and its verdict can be otherwise."""

import csv
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import rljax
from rljax.agents import AgentState
from tests.conftest import enable_x64
from tests.oracles import published

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
try:
    import claims
    from claimed import common, gradients, mazes, shortest, trunk, uphill
finally:
    sys.path.remove(str(SCRIPTS))

# Whatever makes a claim false, by its name.
PLANTED = {
    "uphill": {"sign": -1.0},
    "shortest": {"goal_reward": 0.0},
    "ucb": {"bonus": 8.0},
    "variance": {"num_episodes": 1e6},
    "baseline": {"peek": 10.0},
    "trunk": {"sign": 1.0},
    "faster": {"gae_lambda": 0.0},
    "clip": {"epsilon": 1e9},
    "kl": {"factor": 0.0},
}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.6, 0.7, common.HOLDS),
        (0.5, 0.7, common.OPEN),
        (0.4, 0.5, common.OPEN),
        (0.3, 0.4, common.FAILS),
        (np.nan, np.nan, common.OPEN),
    ],
)
def test_the_whole_interval_decides(low, high, verdict):
    assert common.judge(low, high, 0.5) == verdict


def test_rows_by_hand():
    # Of 10 successes in 10 the interval is [1 / (1 + z²/10), 1].
    assert common.wilson(1.0, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
    test = stats.binomtest(3, 10).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose(common.wilson(0.3, 10), test)
    row = common.share_of("x", [1.0, 0.5, 0.0, 0.5], 0.05)
    assert row == ("x", 0.5, *common.wilson(0.5, 4), 4, common.HOLDS)
    none, all_ = np.zeros(80, bool), np.ones(80, bool)
    row = common.shares_of("x", none, none)
    assert (row.value, row.verdict) == (0, common.OPEN)
    assert row.low == -row.high < -0.04
    row = common.shares_of("x", all_, none)
    assert row.value == row.high == 1
    assert 0.9 < row.low < 0.95
    row = common.difference_of("x", [1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    # 1 ± t(4) √(2/3), Student's 97.5 % quantile of four degrees of freedom.
    np.testing.assert_allclose(row[1:4], [1, 1 - 2.26688, 1 + 2.26688], rtol=1e-4)
    assert row[4:] == (3, common.OPEN)
    first, second = np.random.default_rng(0).normal(size=(2, 9)) * [[1], [3]]
    test = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(common.difference_of("x", first, second)[2:4], test)
    same = common.difference_of("x", [1.0, 1.0], [1.0, 1.0])
    assert same[1:4] == (0, 0, 0) and same.verdict == common.OPEN


def test_a_claim_depends_where_its_cases_differ():
    row = common.Row("x", 0.0, 0.0, 0.0, 1, common.OPEN)
    assert common.overall([row, row._replace(verdict=common.HOLDS)]) == "depends"
    assert common.overall([row, row]) == common.OPEN


def test_the_mazes_distances_are_those_that_planning_finds():
    drawn = mazes.draw(5, 4, seed=3, slip=0.0)
    for i in range(5):
        mdp = jax.tree.map(lambda x, i=i: x[i], drawn.mdps)
        values = np.asarray(rljax.planning.value_iteration(mdp, 0.9).values)
        steps = drawn.distances[i]
        acts = np.isfinite(steps) & (steps > 0)
        expected = 0.9 ** (steps - 1) - 0.01 * (1 - 0.9 ** (steps - 1)) / 0.1
        np.testing.assert_allclose(values[acts], expected[acts], atol=1e-5)
        assert mdp.terminal[drawn.goals[i]]


def test_uphill_by_hand():
    """A corridor of five cells: the goal at its end, and a false summit in it."""
    moves = np.array([[[i, i, max(i - 1, 0), min(i + 1, 4)] for i in range(5)]])
    drawn = mazes.Mazes(None, moves, np.array([[4.0, 3, 2, 1, 0]]), np.array([4]))
    values = np.array([[0.1, 0.2, 0.3, 0.4, np.inf]])
    assert uphill.shares(drawn, values) == 1
    values[0, 1] = 0.9  # cells 0 and 2 climb it, and it leads nowhere
    assert uphill.shares(drawn, values) == 0.25


@pytest.mark.slow
def test_enumerated_moments_of_one_step_by_hand():
    """g = (R(s, a) − b) ∇log π(a|s), with the chance ρ(s) π(a|s)."""
    found = gradients.enumerated(1, 1)
    rng = np.random.default_rng(0)
    initial, _ = rng.dirichlet(np.ones(3), 1)[0], rng.dirichlet(np.ones(3), (1, 3, 2))
    rewards, logits = rng.uniform(size=(1, 3, 2))[0], rng.normal(size=(1, 3, 2))[0]
    policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chances = initial[:, None] * policy
    scores = np.zeros((3, 2, 3, 2))
    for s, a in np.ndindex(3, 2):
        scores[s, a, s] = np.eye(2)[a] - policy[s]
    scores = scores.reshape(6, 6)
    chances, paid = chances.ravel(), rewards.ravel()
    sizes = chances * (scores**2).sum(1)
    values = np.repeat((policy * rewards).sum(1), 2)
    baselines = [0, chances @ paid, values, sizes @ paid / sizes.sum()]
    mean = chances @ (paid[:, None] * scores)
    np.testing.assert_allclose(found.signal, [mean @ mean])
    for noise, baseline in zip(found.noise, baselines, strict=True):
        g = (paid - baseline)[:, None] * scores
        np.testing.assert_allclose(noise, [chances @ ((g - mean) ** 2).sum(1)])
    assert (found.bias < 1e-28).all()


@pytest.mark.slow
@pytest.mark.parametrize("wrong_sign", [False, True])
def test_the_trunk_has_the_published_gradient(wrong_sign):
    rng = np.random.default_rng(0)
    agent = trunk.Measured(
        hidden_sizes=(5,),
        optimizer=optax.sgd,
        trunk_sign=trunk.PUBLISHED if wrong_sign else 1.0,
        head_biases=not wrong_sign,
    )
    with enable_x64():
        params = agent.init_params(jax.random.key(0), rljax.CartPole())
        obs, target = jnp.asarray(rng.normal(size=(1, 4))), jnp.array([3.0])
        optimizer = agent.make_optimizer(0)
        state = AgentState(params, optimizer.init(params), jnp.zeros((), int))
        step = rljax.Transition(
            obs=obs[None],
            action=jnp.array([[1]]),
            reward=target[None],
            terminated=jnp.ones((1, 1), bool),
            truncated=jnp.zeros((1, 1), bool),
            next_obs=obs[None],
            extras=(),
        )
        update = rljax.ActorCritic.update
        after, _ = update(agent, state, step, jax.random.key(0))
    names = ("1", "a", "c")

    def to_dict(params):
        layers = (layers[0] for layers in params)
        pairs = zip(names, layers, strict=True)
        return {
            k + n: np.asarray(x) for n, d in pairs for k, x in zip("Wb", d, strict=True)
        }

    rule = published.actor_critic if wrong_sign else published.actor_critic_mended
    arrays = (np.asarray(obs), np.array([1]), np.asarray(target))
    expected = rule(to_dict(params), *arrays, learning_rate=agent.learning_rate)
    for name, array in to_dict(after.params).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-12, atol=1e-15)
    assert (np.asarray(after.params.actor[0].bias) == 0).all() == wrong_sign


@pytest.mark.slow
def test_the_script_prints_tables_and_saves_all_rows(capsys, monkeypatch, tmp_path):
    arguments = ["ucb", "kl", "--quick", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["claims.py", *arguments])
    assert claims.main() == 0
    said = " ".join(capsys.readouterr().out.split())
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"config.json", "claims.csv"}
    with (folder / "claims.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["claim"] for row in rows] == ["ucb"] * 2 + ["kl"] * 3
    assert [row["verdict"] for row in rows[:2]] == [common.FAILS, common.HOLDS]
    assert "UCB typically wins on the bandit. → depends" in said
    for row in rows:
        low, high = float(row["low"]), float(row["high"])
        assert low <= float(row["value"]) <= high
        assert f"[{low:.3f}, {high:.3f}]" in said


def test_unknown_claims_are_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["claims.py", "luck", "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        claims.main()
    said = capsys.readouterr().err
    assert "claims are uphill" in said
    assert "'luck'" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", claims.CLAIMS)
def test_a_planted_mistake_turns_the_verdict(name):
    claim = claims.CLAIMS[name]
    verdicts = [row.verdict for row in claim.measure(quick=True)]
    if name != "faster":  # which is a tie
        assert common.HOLDS in verdicts
    wrong = [row.verdict for row in claim.measure(quick=True, **PLANTED[name])]
    assert len(wrong) == len(verdicts)
    assert wrong != verdicts
    assert common.HOLDS not in wrong


@pytest.mark.slow
def test_the_text_s_claims_depend_on_what_it_leaves_unsaid():
    """That a step costs something, and which action ties go to."""
    published, free = shortest.measure(quick=True)
    assert published.verdict == common.HOLDS
    assert free.verdict == common.FAILS
