"""Chapter 13: the corridor in which all states look alike and one turns actions round.

Three states in a row and the end to the right of them; each step costs 1. Right is
right and left is left, but the reverse in the second state. A policy is the probability
p of right: at first 0.05, which is ε-greedy to the left with ε = 0.1.

In the book an episode lasts until it ends. One long episode can drive p so near to 0 or
1 that the next never does: such runs are lost. Here an episode is cut after CAP steps,
and learned from as far as it went. After PATIENCE cut ones in a row a run is lost: it
is not played on, and its episodes count as cut from then on.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import rljax
from figures import common
from rljax import parallel, planning, returns, rollout, spaces
from rljax.agents import AgentState

NUM_EPISODES, CAP, PATIENCE = 1000, 1000, 10
CHUNK = 20
"""Steps between two looks at whether all episodes have ended."""
BEST = -(6 + 4 * 2**0.5)
"""v*(s₀), at p = 2 − √2; see `_value`."""
SHOWN = 5
"""Episodes that a point in pictures and CSV files is the mean of."""
NEXT = np.array([[0, 1], [2, 0], [1, 3], [3, 3]])
"""[4, 2] where left and right lead."""


class Corridor(rljax.Env):
    """The corridor as an environment; all it shows is 0."""

    @property
    def observation_space(self):
        """One observation."""
        return spaces.Discrete(1)

    @property
    def action_space(self):
        """Left, 0, and right, 1."""
        return spaces.Discrete(2)

    def reset(self, key):
        """Starts in the first state."""
        zero = jnp.zeros((), jnp.int32)
        return zero, zero

    def step(self, state, action, key):
        """Takes a step; the last state is the end."""
        state = jnp.asarray(NEXT, jnp.int32)[state, action]
        end, obs = state == 3, jnp.zeros_like(state)
        return state, rljax.TimeStep(obs, -jnp.ones(()), end, jnp.zeros_like(end))


class Preferences:
    """Logits of left and right, the same in all states."""

    def init(self, key, obs):
        """p = 0.05."""
        return jnp.log(jnp.array([0.95, 0.05]))

    def apply(self, params, obs):
        """The parameters themselves."""
        return params


ENV, AGENT = Corridor(), rljax.Reinforce(network=Preferences(), discount=1.0)


class Runs(NamedTuple):
    """What came of N runs."""

    totals: np.ndarray
    """[N, NUM_EPISODES] the rewards of each episode, summed up."""
    kept: np.ndarray
    """[N] whether the run was not lost."""


# Learning: Reinforce takes one step for all of an episode, the book one for each step.


def _learn_all(num_runs: int, step_sizes: list[tuple[float, float]]) -> list[Runs]:
    """REINFORCE with step sizes α of the policy and α_w of its baseline, 0 for none."""
    mesh = parallel.lay_out(num_runs).mesh
    split, same = PartitionSpec("runs"), PartitionSpec()

    def on_device(sizes, keys):
        return _runs(num_runs // mesh.size, sizes, keys[0])

    run = jax.jit(
        jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(same, split),
            out_specs=split,
            check_vma=False,
        )
    )
    keys = jax.random.split(jax.random.key(0), mesh.size)
    return [Runs(*map(np.asarray, run(jnp.array(s), keys))) for s in step_sizes]


def _runs(num_runs, step_sizes, key):
    """Totals [N, NUM_EPISODES], and which runs were not lost, [N]."""

    def episode(carry, key):
        logits, baselines, cuts = carry
        runs = cuts < PATIENCE
        actions, lengths, ended = _play(logits, runs, key)
        logits, baselines = _learn(
            logits, baselines, actions, jnp.where(runs, lengths, 0), step_sizes
        )
        cuts = jnp.where(ended, 0, cuts + 1)
        return (logits, baselines, cuts), -lengths

    logits = jnp.tile(Preferences().init(key, ()), (num_runs, 1))
    carry = (logits, jnp.zeros(num_runs), jnp.zeros(num_runs, jnp.int32))
    keys = jax.random.split(key, NUM_EPISODES)
    (_, _, cuts), totals = jax.lax.scan(episode, carry, keys)
    return totals.T, cuts < PATIENCE


def _play(logits, runs, key):
    """An episode of each run [N] that goes on: actions [CAP, N], steps, and its end."""
    states = AgentState(logits, (), jnp.zeros(len(runs), jnp.int32))

    def goes_on(carry):
        i, *_, running = carry
        return (i < CAP // CHUNK) & jnp.any(running)

    def go_on(carry):
        i, at, actions, lengths, running = carry
        keys = jax.random.split(jax.random.fold_in(key, i), len(runs))
        at, t, _ = jax.vmap(
            lambda s, at, key: rollout.unroll(AGENT, s, ENV, at, key, length=CHUNK)
        )(states, at, keys)
        taken = jax.vmap(returns.first_episode)(t.terminated, t.truncated)
        lengths += jnp.sum(taken & running[:, None], axis=1, dtype=lengths.dtype)
        actions = actions.at[i].set(t.action.T.astype(jnp.int8))
        return i + 1, at, actions, lengths, running & ~jnp.any(t.terminated, axis=1)

    at = jax.vmap(lambda _: rollout.start(ENV, key))(runs)
    actions = jnp.zeros((CAP // CHUNK, CHUNK, len(runs)), jnp.int8)
    zero = jnp.zeros((), jnp.int32)
    carry = (zero, at, actions, jnp.zeros_like(runs, jnp.int32), runs)
    _, _, actions, lengths, running = jax.lax.while_loop(goes_on, go_on, carry)
    ended = runs & ~running
    return actions.reshape(CAP, -1), jnp.where(runs, lengths, CAP), ended


def _learn(logits, baselines, actions, lengths, step_sizes):
    """A step for each of an episode's steps, in order, with δ = G_t − w:

    w ← w + α_w δ,   θ_b ← θ_b + α δ (1[b = a_t] − π(b))   for both actions b
    """

    def step(t, carry):
        left, right, baselines = carry
        g = (t - lengths).astype(baselines.dtype)  # every reward is −1
        delta = jnp.where(t < lengths, g - baselines, 0)
        chosen = actions[t].astype(g.dtype)
        push = step_sizes[0] * delta * (chosen - jax.nn.sigmoid(right - left))
        return left - push, right + push, baselines + step_sizes[1] * delta

    carry = (logits[:, 0], logits[:, 1], baselines)
    left, right, baselines = jax.lax.fori_loop(0, jnp.max(lengths), step, carry)
    return jnp.stack([left, right], 1), baselines


# What is exact.


def _value(p: Any) -> Any:
    """J(p) = v(s₀) = −2 (2 − p) / (p (1 − p)).

    From v₀ = −1 + p v₁ + (1 − p) v₀, v₁ = −1 + p v₀ + (1 − p) v₂ and v₂ = −1 + (1 − p)
    v₁. Its derivative is 0 where p² − 4p + 2 = 0.
    """
    return -2 * (2 - p) / (p * (1 - p))


def _exact() -> list[common.Statement]:
    """That J(p) is the model's, and has the values in the book."""
    mdp = rljax.types.MDP(
        transitions=jnp.eye(4)[NEXT],
        rewards=-jnp.ones((4, 2)),
        terminal=jnp.arange(4) == 3,
        initial=jnp.eye(4)[0],
    )
    ps = np.linspace(0.05, 0.95, 19)
    policies = jnp.stack([jnp.tile(jnp.array([1 - p, p]), (4, 1)) for p in ps])
    found = jax.vmap(lambda policy: planning.expected_return(mdp, policy, 1.0))(
        policies
    )
    fine = np.linspace(0.001, 0.999, 9981)
    return [
        common.equal("v(s₀) = −2 (2 − p) / (p (1 − p))", found, _value(ps), 1e-3),
        common.equal(
            "at its highest v(s₀) is −(6 + 4√2), the book's −11.6",
            _value(fine).max(),
            BEST,
            1e-5,
        ),
        common.equal("it is so at p = 0.59", fine[_value(fine).argmax()], 0.59, 5e-3),
        common.equal(
            "it is −82 at p = 0.05 and −44 at 0.95",
            _value(np.array([0.05, 0.95])),
            [-82, -44],
            0.5,
        ),
    ]


# Figures.


def _panels(runs: dict[str, Runs]) -> dict[str, list[common.Curve]]:
    """Rewards on an episode, of all runs and of those that were not lost."""
    episodes = np.arange(NUM_EPISODES).reshape(-1, SHOWN).mean(1) + 1
    best = common.exact_curve("v*(s₀)", episodes, np.full(len(episodes), BEST))

    def curves(chosen):
        return [
            *(
                common.mean_curve(name, episodes, _means(totals))
                for name, totals in chosen.items()
            ),
            best,
        ]

    return {
        "all runs": curves({name: r.totals for name, r in runs.items()}),
        "without the lost runs": curves({n: r.totals[r.kept] for n, r in runs.items()}),
    }


def _means(totals: np.ndarray) -> np.ndarray:
    return totals.reshape(len(totals), -1, SHOWN).mean(-1)


def _picture(panels: dict[str, list[common.Curve]]) -> Any:
    label = "total reward on episode"
    return common.plot(panels, "episode", label, ylim=(-90, -5))


def _over(totals: np.ndarray, first: int = 0, last: int = NUM_EPISODES) -> np.ndarray:
    """[N] the mean over some episodes, counted from 0."""
    return totals[:, first:last].mean(1)


def figure_13_1(*, quick: bool = False) -> common.Drawn:
    """REINFORCE with three step sizes."""
    sizes = {
        "α = 2⁻¹²": (2.0**-12, 0.0),
        "α = 2⁻¹³": (2.0**-13, 0.0),
        "α = 2⁻¹⁴": (2.0**-14, 0.0),
    }
    learned = _learn_all(1000 if quick else 2000, list(sizes.values()))
    panels = _panels(dict(zip(sizes, learned, strict=True)))
    large, middle, _ = (_over(r.totals, 900) for r in learned)
    kept_large, kept, kept_small = (r.totals[r.kept] for r in learned)
    statements = [
        *_exact(),
        common.above(
            "α = 2⁻¹³ ends below v*(s₀), where no run is lost",
            BEST - _over(kept, 900),
        ),
        common.above("and within 1 of it", _over(kept, 900), BEST - 1),
        common.larger(
            "there 2⁻¹³ earns more than 2⁻¹⁴ over the last 100 episodes",
            _over(kept, 900),
            _over(kept_small, 900),
        ),
        common.larger(
            "2⁻¹³ earns more than 2⁻¹² over the last 100 episodes of all runs",
            middle,
            large,
        ),
        common.larger(
            "where no run is lost 2⁻¹² earns more than 2⁻¹³, the book's best",
            _over(kept_large),
            _over(kept),
        ),
    ]
    return common.Drawn(panels, statements, _picture(panels))


def figure_13_2(*, quick: bool = False) -> common.Drawn:
    """REINFORCE with a baseline, and without."""
    sizes = {
        "with baseline, α = 2⁻⁹, α_w = 2⁻⁶": (2.0**-9, 2.0**-6),
        "without, α = 2⁻¹³": (2.0**-13, 0.0),
    }
    learned = _learn_all(400 if quick else 2000, list(sizes.values()))
    panels = _panels(dict(zip(sizes, learned, strict=True)))
    mine, plain = learned
    kept = mine.totals[mine.kept]
    statements = [
        common.larger(
            "over the first 100 episodes the baseline earns more",
            _over(mine.totals, 0, 100),
            _over(plain.totals, 0, 100),
        ),
        common.larger(
            "over all 1000 episodes too, where no run is lost",
            _over(kept),
            _over(plain.totals[plain.kept]),
        ),
        common.above(
            "there it is within 1 of v*(s₀) over episodes 101 to 200",
            _over(kept, 100, 200),
            BEST - 1,
        ),
        common.above("and ends below v*(s₀)", BEST - _over(kept, 900)),
    ]
    return common.Drawn(panels, statements, _picture(panels))


FIGURES = [
    common.Figure("13.1", "REINFORCE in the short corridor", figure_13_1),
    common.Figure("13.2", "a baseline in the short corridor", figure_13_2),
]
