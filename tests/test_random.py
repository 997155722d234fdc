"""The words are those of jax.random, whichever way they are drawn."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import rljax
from rljax import parallel, random, struct
from rljax.experiment import checkpoint
from tests.conftest import enable_x64

SHAPES = [(), (3, 4, 5), (0,), (100_001,)]
KEYS = {
    "typed": lambda: jax.random.key(3),
    "legacy": lambda: jax.random.PRNGKey(3),
    "unrolled": lambda: random.key(3),
    "split": lambda: jax.random.split(jax.random.key(3))[1],
    "rbg": lambda: jax.random.key(3, impl="rbg"),
}
# Every way in which the library draws, and all widths of words.
DRAWS = {
    "split": lambda key: jax.random.key_data(jax.random.split(key, (3, 2))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**31 + 5)),
    "uint8": lambda key: jax.random.bits(key, (9,), jnp.uint8),
    "uint16": lambda key: jax.random.bits(key, (9,), jnp.uint16),
    "uint32": lambda key: jax.random.bits(key, (9,), jnp.uint32),
    "uniform": lambda key: jax.random.uniform(key, (9,), minval=-3.0),
    "normal": lambda key: jax.random.normal(key, (9,)),
    "exponential": lambda key: jax.random.exponential(key, (9,)),
    "beta": lambda key: jax.random.beta(key, 2.0, 0.5, (9,)),
    "randint": lambda key: jax.random.randint(key, (9,), 0, 1_000_003),
    "choice": lambda key: jax.random.choice(key, 50, (9,), replace=False),
    "permutation": lambda key: jax.random.permutation(key, 50),
    "clone": lambda key: jax.random.bits(jax.random.clone(key), (9,)),
}


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_words_are_those_of_jax_random(kind, shape, x64):
    with enable_x64() if x64 else contextlib.nullcontext():
        key = KEYS[kind]()
        uniform, normal = random.uniform(key, shape), random.normal(key, shape)
        expected_uniform = jax.random.uniform(key, shape)
        expected_normal = jax.random.normal(key, shape)
    assert uniform.dtype == expected_uniform.dtype == (np.float32, np.float64)[x64]
    if x64:
        np.testing.assert_array_equal(uniform, expected_uniform)
    elif kind != "rbg":
        # A second word fills in what lies between the steps of the first.
        between = np.asarray(uniform, float) - np.asarray(expected_uniform)
        assert ((between >= 0) & (between <= 2.0**-23)).all()
    assert normal.dtype == expected_normal.dtype
    np.testing.assert_allclose(normal, expected_normal, rtol=1e-6)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("seed", [3, pytest.param(-1, marks=pytest.mark.slow)])
def test_a_key_draws_what_jax_s_key_draws(name, seed):
    draw = DRAWS[name]
    expected = draw(jax.random.key(seed))
    np.testing.assert_allclose(draw(random.key(seed)), expected, rtol=1e-6)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(draw(random.key(seed)), expected)


def test_words_of_64_bits():
    with enable_x64():
        for seed in (3, 2**40 + 1):
            np.testing.assert_array_equal(
                jax.random.bits(random.key(seed), (9,), jnp.uint64),
                jax.random.bits(jax.random.key(seed), (9,), jnp.uint64),
            )


def test_published_vectors():
    # Random123's known answers for Threefry-2x32 with 20 rounds.
    vectors = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ]
    for key, counter, expected in vectors:
        key, counter = jnp.array(key, jnp.uint32), jnp.array(counter, jnp.uint32)
        assert random._threefry(key, *counter) == tuple(jnp.array(expected, jnp.uint32))


@pytest.mark.parametrize("draw", ["bits", "split"])
def test_shapes_beyond_one_counter_are_left_to_jax(draw):
    # Not drawn, it would take gigabytes: JAX's own rounds are a loop, ours are not.
    def has_loop(side):
        fns = {
            "bits": lambda key: jax.random.bits(key, (side, side), jnp.uint8),
            "split": lambda key: jax.random.split(key, (side, side)),
        }
        lowered = jax.jit(fns[draw]).lower(random.key(0))
        return "stablehlo.while" in lowered.as_text()

    assert has_loop(2**16)
    assert not has_loop(2**15)


def test_jit_vmap_and_devices_change_no_word():
    keys = jax.random.split(random.key(0), 6)
    drawn = jax.jit(jax.vmap(lambda key: random.uniform(key, (4, 3))))(keys)
    spread = parallel.map_seeds(lambda key: jax.random.uniform(key, (4, 3)))(keys)
    for i, key in enumerate(jax.random.split(jax.random.key(0), 6)):
        np.testing.assert_array_equal(drawn[i], random.uniform(key, (4, 3)))
        np.testing.assert_array_equal(spread[i], jax.random.uniform(key, (4, 3)))


def test_streams_of_split_keys_are_independent():
    keys = jax.random.split(random.key(0), 64)
    words = jax.vmap(lambda key: jax.random.bits(key, (512,)))(keys)
    bits = np.unpackbits(np.asarray(words).view(np.uint8), axis=1).astype(float)
    # n = 16,384 bits a stream: correlations are N(0, 1/n) if they are independent.
    z = np.corrcoef(bits)[np.triu_indices(64, 1)] * np.sqrt(bits.shape[1])
    assert scipy.stats.kstest(z, "norm").pvalue > 0.001
    assert abs(z).max() < 5.5


@pytest.mark.slow
def test_a_key_survives_a_checkpoint(tmp_path):
    state = {"key": random.key(5), "keys": jax.random.split(random.key(6), 3)}
    folder = checkpoint.Checkpoints(tmp_path)
    folder.save(1, state)
    restored = folder.restore(like=state).tree
    assert restored["key"].dtype == state["key"].dtype
    for name, key in state.items():
        np.testing.assert_array_equal(
            jax.random.key_data(restored[name]), jax.random.key_data(key)
        )


@pytest.mark.slow
def test_training_takes_either_key_and_does_the_same():
    agent = rljax.PPO(num_envs=2, rollout_length=8, hidden_sizes=(4,))
    env = rljax.make("CartPole-v1")
    states = {}
    for name, key in (
        ("ordinary", jax.random.key(1)),
        ("unrolled", random.key(1)),
        ("legacy", jax.random.PRNGKey(1)),
    ):
        states[name], _ = rljax.train(agent, env, key, num_updates=2)
        # The key that goes on is of the kind that was given.
        assert states[name].key.dtype == key.dtype
    first, *others = (state.agent_state for state in states.values())
    for other in others:
        # Not equal: the programs differ, and so may the last bit of what they fuse.
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
            first,
            other,
        )


def test_without_partitionable_counters_the_words_are_still_jax_s():
    key = jax.random.key(0)
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(
            random.normal(key, (9,)), jax.random.normal(key, (9,))
        )


def test_another_default_kind_of_legacy_key_is_left_to_jax():
    with jax.default_prng_impl("rbg"):
        key = jax.random.PRNGKey(0)
        np.testing.assert_array_equal(
            random.normal(key, (9,)), jax.random.normal(key, (9,))
        )


@pytest.mark.parametrize("seed", [1.5, [1, 2]])
def test_a_seed_is_one_integer(seed):
    with pytest.raises((TypeError, ValueError), match="seed"):
        random.key(seed)


@pytest.mark.parametrize("kind", KEYS)
def test_split_keys_are_jax_s_and_of_their_kind(kind):
    key = KEYS[kind]()
    for num in (3, (2, 3)):
        keys, expected = random.split(key, num), jax.random.split(key, num)
        assert keys.dtype == expected.dtype
        if random.is_typed_key(keys):
            keys, expected = jax.random.key_data(keys), jax.random.key_data(expected)
        np.testing.assert_array_equal(keys, expected)


@pytest.mark.parametrize("kind", ["typed", "legacy", "unrolled"])
def test_environments_and_agents_get_keys_of_the_kind_that_was_given(kind):
    given, seen = KEYS[kind](), []

    @struct.dataclass
    class Seen(rljax.CartPole):
        def reset(self, key):
            seen.append(key.dtype)
            return super().reset(key)

        def step(self, state, action, key):
            seen.append(key.dtype)
            return super().step(state, action, key)

    @struct.dataclass
    class SeenPPO(rljax.PPO):
        def act(self, state, obs, key):
            seen.append(key.dtype)
            return super().act(state, obs, key)

    agent = SeenPPO(num_envs=2, rollout_length=8, hidden_sizes=(4,))
    env = rljax.TimeLimit(Seen(), 20)
    jax.eval_shape(lambda key: rljax.train(agent, env, key, num_updates=1), given)
    state = jax.eval_shape(agent.init, given, env)
    jax.eval_shape(
        lambda s, k: rljax.evaluate(agent, s, env, k, num_episodes=2), state, given
    )
    assert len(seen) >= 5
    assert set(seen) == {given.dtype}


@pytest.mark.parametrize("kind", ["typed", pytest.param("rbg", marks=pytest.mark.slow)])
def test_uniform_words_decide_rare_events(kind):
    words = np.asarray(random.uniform(KEYS[kind](), (8_000_000,)), float)
    assert words.min() >= 0
    assert words.max() < 1
    rare = words[words < 1e-5] / 1e-5
    assert scipy.stats.binomtest(len(rare), len(words), 1e-5).pvalue > 1e-3
    assert scipy.stats.kstest(rare, "uniform").pvalue > 1e-3
    # In steps of 2⁻²³ there would be 84 numbers below 1e-5, whatever their number.
    assert len(np.unique(rare)) == len(rare)


def test_normal_words_are_finite():
    assert jnp.isfinite(random.normal(jax.random.key(1), (1_000_000,))).all()


@pytest.mark.parametrize("dtype", ["uint32", "int32", "float32", "float16", "float64"])
def test_once_changes_no_number(dtype):
    numbers = [0.0, 1.0, 2.0, 7.0, 1e4]
    if dtype != "uint32":
        numbers += [-1.0, -3.0]
    if dtype.startswith("float"):
        numbers += [-0.0, 0.1, np.inf, -np.inf, np.nan]
    with enable_x64() if dtype == "float64" else contextlib.nullcontext():
        x = jnp.array(numbers, dtype)
        for out in (random.once(x), jax.jit(random.once)(x), random.once(x[1])[None]):
            assert out.dtype == x.dtype
        np.testing.assert_array_equal(random.once(x), x)
        np.testing.assert_array_equal(np.signbit(random.once(x)), np.signbit(x))
        np.testing.assert_array_equal(jax.jit(random.once)(x), x)
    assert jax.grad(random.once)(2.5) == 1.0


@pytest.mark.parametrize("x", [True, 1j])
def test_once_takes_real_numbers(x):
    with pytest.raises(TypeError, match="must be integer or floating, got "):
        random.once(x)


@pytest.mark.parametrize("kind", ["typed", "legacy"])
def test_integers_below_a_number_are_a_word_s_remainder(kind):
    key = KEYS[kind]()
    word = int(jax.random.bits(key, (), jnp.uint32))
    for number in (1, 13, 2**16):
        drawn = random.below(key, number)
        assert (drawn, drawn.dtype) == (word % number, jnp.int32)
    with pytest.raises(ValueError, match="number must be at most 65536, got 65537"):
        random.below(key, 65537)
    with pytest.raises(ValueError, match="number must be at least 1, got 0"):
        random.below(key, 0)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 512, 1024, 1025])
def test_permutations_are_permutations(size):
    order = random.permutation(jax.random.key(size), size)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [-1, 2.5, np.arange(2)], ids=str)
def test_permutations_have_a_size(size):
    with pytest.raises((TypeError, ValueError), match="size must be "):
        random.permutation(jax.random.key(0), size)


@pytest.mark.parametrize("size", [3, 4])
def test_permutations_are_uniform(size):
    keys = jax.random.split(random.key(0), 100_000)
    orders = jax.vmap(lambda key: random.permutation(key, size))(keys)
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == math.factorial(size)
    assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_permutations_put_every_index_anywhere():
    keys = jax.random.split(random.key(1), 20_000)
    orders = np.asarray(jax.vmap(lambda key: random.permutation(key, 37))(keys))
    counts = np.stack([np.bincount(column, minlength=37) for column in orders.T])
    # Rows and columns of the table have fixed sums: 36² degrees of freedom.
    statistic = ((counts - 20_000 / 37) ** 2 / (20_000 / 37)).sum()
    assert scipy.stats.chi2.sf(statistic, 36**2) > 0.001


def test_permutations_have_the_ascents_of_uniform_ones():
    # At the largest size that is not left to JAX; their mean is (n − 1)/2, their
    # variance (n + 1)/12. Shared masks would show where many words agree.
    size, num = 1024, 4_000
    keys = jax.random.split(random.key(3), num)
    orders = np.asarray(jax.vmap(lambda key: random.permutation(key, size))(keys))
    ascents = (np.diff(orders, axis=1) > 0).sum(axis=1)
    variance = (size + 1) / 12
    assert abs(ascents.mean() - (size - 1) / 2) < 4 * np.sqrt(variance / num)
    assert abs(ascents.var() / variance - 1) < 4 * np.sqrt(2 / num)


def test_words_that_agree_are_put_in_either_order(monkeypatch):
    # All random bits above the index alike: without the mask, always the same order.
    keys = jax.random.split(random.key(2), 4_000)
    bits = jax.random.bits
    monkeypatch.setattr(
        jax.random, "bits", lambda key, shape: bits(key, shape) & jnp.uint32(7)
    )
    orders = np.asarray(jax.vmap(lambda key: random.permutation(key, 8))(keys))
    places = np.argsort(orders, axis=1)
    for i in range(8):
        for j in range(i):
            assert abs((places[:, i] < places[:, j]).mean() - 0.5) < 0.035


def test_coins_need_an_axis_for_their_words():
    with pytest.raises(ValueError, match=r"shape must have an axis or more, got \(\)"):
        random.coins(jax.random.key(0), ())
