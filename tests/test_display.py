"""What results show of themselves: short, true, and the same under a trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import display, struct

ENV = rljax.make("GridWorld-5x5")
AGENT = rljax.QLearning(rollout_length=10)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.arange(6).reshape(2, 3), "int64[2, 3], 0 to 5"),
        (jnp.array([1.5, np.nan, 0.5]), "float32[3], 0.5 to 1.5, mean 1, 1 NaN"),
        (jnp.full((2,), np.nan), "float32[2], all NaN"),
        (jnp.zeros((0, 3)), "float32[0, 3]"),
        (np.array([True, False, True]), "bool[3], 2 true"),
        (jnp.float32(0.25), "0.25"),
        (jnp.int32(7), "7"),
        (jax.random.key(0), "key<fry>[]"),
        (jax.ShapeDtypeStruct((4,), jnp.float32), "float32[4]"),
        ((), "()"),
        (None, "None"),
        ({"a": jnp.zeros(3), "b": jnp.ones(3)}, "float32[3] by name: a, b"),
        ({"a": jnp.zeros(3), "b": jnp.ones(2)}, "2 entries by name: a, b"),
        ((jnp.zeros(3), 0.5), "(float32[3], 0 to 0, mean 0, 0.5)"),
        ([jnp.zeros(3), jnp.ones((2, 2))], "list of 2 arrays, 7 numbers"),
        ("x" * 100, "'" + "x" * 69 + " …"),
        ("x" * 70, "'" + "x" * 70 + "'"),  # of 72 signs, the most that are shown
        ("x" * 71, "'" + "x" * 69 + " …"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else "",
)
def test_a_value_in_words(value, words):
    assert display.in_words(value) == words


def test_results_are_short_in_a_terminal_and_tables_in_a_notebook(key):
    state, metrics = rljax.train(AGENT, ENV, key, num_updates=3)
    evaluation = rljax.evaluate(
        AGENT, state.agent_state, ENV, key, num_episodes=2, max_steps=5
    )
    mdp = ENV.to_mdp()
    plan = rljax.planning.value_iteration(mdp, 0.99)
    for result in (state, metrics, evaluation, mdp, plan):
        name = type(result).__name__
        words, html = repr(result), result._repr_html_()
        assert words.startswith(f"{name}(\n  ")
        assert len(words) < 500
        assert html.count("<tr>") == 1 + len(words.splitlines()) - 2
    assert "episode_return: float32[3]" in repr(metrics)  # a property
    assert "num_iterations: 9" in repr(plan)
    assert "best: ()" in repr(state)


def test_a_traced_result_shows_shapes(key):
    seen = []
    state = rljax.init_train(AGENT, ENV, key)
    jax.jit(lambda state: seen.append(repr(state)) or state.key)(state)
    assert "agent_state: TabularState of 2 arrays, 101 numbers" in seen[0]


def test_shapes_alone_can_be_shown(key):
    shapes = jax.eval_shape(lambda: rljax.train(AGENT, ENV, key, num_updates=3))
    assert "num_episodes: int32[3]" in repr(shapes[1])
    assert "episode_return:" not in repr(shapes[1])


def test_cells_are_text():
    @struct.dataclass
    class Odd:
        """With what HTML would take for a tag."""

        name: str = struct.static(default="<b>&")
        __repr__ = display.text

    assert "&lt;b&gt;&amp;" in display.html(Odd())
    assert repr(Odd()) == "Odd(\n  name: '<b>&'\n)"
