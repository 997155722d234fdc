"""Seeds over devices: the same numbers as vmap on one."""

import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import parallel
from rljax.experiment import transfer

AGENT = rljax.Reinforce(num_envs=2, rollout_length=8, hidden_sizes=(8,))
ENV = rljax.make("CartPole-v1")


@pytest.mark.usefixtures("two_devices")
@pytest.mark.parametrize("num_seeds", [1, 2, 5])
def test_any_number_of_seeds_over_two_devices(num_seeds):
    def draw(key, scale):
        return {"x": scale * jax.random.normal(key, (3,))}

    assert len(jax.local_devices()) == 2
    keys = jax.random.split(jax.random.key(0), num_seeds)
    scales = jnp.arange(float(num_seeds))
    sharded = parallel.map_seeds(draw)(keys, scales)
    expected = jax.vmap(draw)(keys, scales)
    np.testing.assert_allclose(sharded["x"], expected["x"], rtol=1e-6)


@pytest.mark.slow
def test_sharded_training_equals_vmap():
    def run(key):
        return rljax.train(AGENT, ENV, key, num_updates=2)[1]

    keys = jax.random.split(jax.random.key(0), 5)
    sharded, together = parallel.map_seeds(run)(keys), jax.vmap(run)(keys)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        sharded,
        together,
    )


@pytest.mark.usefixtures("two_devices")
def test_every_device_gets_its_share():
    out = parallel.map_seeds(lambda x: 2 * x)(jnp.arange(6.0))
    assert sorted(len(shard.data) for shard in out.addressable_shards) == [3, 3]
    np.testing.assert_array_equal(out, 2 * np.arange(6))


@pytest.mark.usefixtures("two_devices")
def test_devices_can_be_chosen():
    one = parallel.map_seeds(lambda x: 2 * x, devices=jax.local_devices()[1:])
    assert one(jnp.arange(4.0)).devices() == {jax.local_devices()[1]}


def test_one_cpu_device_per_core_unless_the_user_chose(monkeypatch):
    # The suite has chosen two; that stays.
    parallel.use_cpu_cores()
    assert len(jax.local_devices(backend="cpu")) == 2
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    parallel.use_cpu_cores(1)
    assert jax.config.jax_num_cpu_devices == 2


@pytest.mark.parametrize(
    ("asked", "cores", "devices"),
    [(None, 6, 6), (4, 6, 4), (9, 6, 6), (1, 6, 1), (None, None, 1)],
)
@pytest.mark.parametrize("affinity", [True, False])
def test_no_more_devices_than_cores_or_than_are_asked_for(
    asked, cores, devices, affinity, monkeypatch
):
    updates = {}
    config = types.SimpleNamespace(jax_num_cpu_devices=-1, update=updates.__setitem__)
    monkeypatch.setattr(parallel, "jax", types.SimpleNamespace(config=config))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    # A process may be held to fewer cores than there are; not every system says so.
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64 if affinity else cores)
    if affinity:
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda _: {*range(cores or 1)}, raising=False
        )
    parallel.use_cpu_cores(asked)
    assert updates == {"jax_num_cpu_devices": devices}


def test_the_threads_can_be_chosen_before_jax_starts(monkeypatch):
    early = (
        "import jax, os; from rljax import parallel; "
        "jax.config.update('jax_num_cpu_devices', 3); "
        "parallel.use_cpu_cores(1, num_threads=4); "
        "print(jax.config.jax_num_cpu_devices); "
        "jax.config.update('jax_num_cpu_devices', -1); "
        "parallel.use_cpu_cores(1, num_threads=2); print(os.environ['PJRT_NPROC']); "
        "parallel.use_cpu_cores(); print(jax.config.jax_num_cpu_devices)"
    )
    command = [sys.executable, "-c", early]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    out = subprocess.run(command, env=environment, check=True, capture_output=True)
    # The user's three devices stay; so does the one that was chosen here.
    assert out.stdout.split() == [b"3", b"2", b"1"]
    monkeypatch.setenv("PJRT_NPROC", "7")
    parallel.use_cpu_cores(1)
    with pytest.raises(RuntimeError, match="before"):
        parallel.use_cpu_cores(1, num_threads=2)
    assert os.environ["PJRT_NPROC"] == "7"
    with pytest.raises(ValueError, match="num_threads must be at least 1, got 0"):
        parallel.use_cpu_cores(num_threads=0)
    with pytest.raises(TypeError, match="num_threads must be an integer"):
        parallel.use_cpu_cores(num_threads=1.5)


@pytest.mark.slow
def test_small_loops_are_fused_unless_jax_has_started_or_the_user_chose(monkeypatch):
    threshold = "xla_cpu_small_while_loop_byte_threshold"
    early = (
        "import jax, os; from rljax import parallel; parallel.fuse_small_loops(); "
        "parallel.fuse_small_loops(); print(os.environ['XLA_FLAGS']); "
        "print(jax.jit(lambda x: jax.lax.fori_loop(0, 9, lambda i, y: y + i, x))(1.0))"
    )
    command = [sys.executable, "-c", early]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    chosen = f"--xla_backend_extra_options={threshold}=9"
    for before, after in (
        ("", f"--xla_backend_extra_options={threshold}=65536"),
        ("--xla_cpu_enable_fast_math=false", f"{threshold}=65536"),
        (chosen, chosen),
    ):
        run = {"env": environment | {"XLA_FLAGS": before}, "capture_output": True}
        out = subprocess.run(command, check=True, text=True, **run).stdout.splitlines()
        assert out[0].startswith(before)
        assert out[0].endswith(after)
        assert out[0].count(threshold) == 1
        assert float(out[1]) == 37
    monkeypatch.setenv("XLA_FLAGS", chosen)
    jax.devices()
    with pytest.raises(RuntimeError, match="before"):
        parallel.fuse_small_loops()
    assert os.environ["XLA_FLAGS"] == chosen


def test_arguments_that_do_not_match_are_refused():
    add = parallel.map_seeds(lambda a, b: a + b)
    with pytest.raises(ValueError, match=r"got leading sizes \[\(3,\), \(5,\)\]"):
        add(jnp.arange(5.0), jnp.arange(3.0))
    with pytest.raises(ValueError, match="at least 1"):
        add(jnp.arange(0.0), jnp.arange(0.0))
    with pytest.raises(ValueError, match="devices must name at least one"):
        parallel.map_seeds(lambda a: a, devices=[])
    with pytest.raises(ValueError, match="max_devices must be at least 1, got 0"):
        parallel.use_cpu_cores(0)


@pytest.mark.usefixtures("two_devices")
def test_a_layout_spreads_pads_and_gathers():
    layout = parallel.lay_out(7, batch_size=2)
    assert (layout.batch_size, layout.num_batches, layout.num_padded) == (2, 2, 8)
    data = {
        "x": np.arange(7.0, dtype=np.float32),
        "key": jax.random.split(jax.random.key(0), 7),
        "old": jax.random.split(jax.random.PRNGKey(0), 7),
    }
    there = transfer.put(layout, data)
    assert sorted(len(shard.data) for shard in there["x"].addressable_shards) == [4, 4]
    back = transfer.get(layout, there)
    np.testing.assert_array_equal(back["x"], data["x"])
    np.testing.assert_array_equal(back["old"], data["old"])
    assert (jax.random.key_data(back["key"]) == jax.random.key_data(data["key"])).all()
    double = jax.jit(layout.map(lambda shared, x: {"y": shared * x}))
    out = transfer.get(layout, double(jnp.float32(2), there["x"]))
    np.testing.assert_array_equal(out["y"], 2 * np.arange(7))


@pytest.mark.usefixtures("two_devices")
@pytest.mark.parametrize(
    ("num_runs", "batch_size", "expected"),
    [
        (8, None, (4, 1)),
        (8, 3, (2, 2)),
        (9, 4, (3, 2)),
        (1, 5, (1, 1)),
        (5, 99, (3, 1)),
    ],
)
def test_batches_are_even(num_runs, batch_size, expected):
    layout = parallel.lay_out(num_runs, batch_size=batch_size)
    assert (layout.batch_size, layout.num_batches) == expected
    assert layout.num_padded >= num_runs


def test_batches_change_no_number():
    def draw(key, scale):
        return scale * jax.random.normal(key, (3,))

    keys, scales = jax.random.split(jax.random.key(0), 7), jnp.arange(7.0)
    out = parallel.map_seeds(draw, batch_size=2)(keys, scales)
    np.testing.assert_allclose(out, jax.vmap(draw)(keys, scales), rtol=1e-6)


def test_layouts_that_can_not_be_are_refused():
    with pytest.raises(ValueError, match="num_runs must be at least 1, got 0"):
        parallel.lay_out(0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        parallel.lay_out(3, batch_size=0)
    with pytest.raises(ValueError, match="devices must name at least one"):
        parallel.lay_out(3, devices=[])


@pytest.mark.usefixtures("two_devices")
@pytest.mark.parametrize(("num_runs", "used"), [(1, 1), (2, 2), (7, 2)])
def test_no_device_is_given_padding_alone(num_runs, used):
    layout = parallel.lay_out(num_runs)
    assert layout.mesh.size == used
    assert layout.num_padded == -(-num_runs // used) * used


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ((1.0,), r"\[\(\)\]"),
        ((1.0, np.ones(3)), r"\[\(\), \(3,\)\]"),
        ((np.ones((0, 2)),), r"\[\(0,\)\]"),
        ((), r"\[\]"),
    ],
)
def test_arguments_without_seeds_are_refused(arguments, sizes):
    with pytest.raises(ValueError, match=f"at least 1, got leading sizes {sizes}"):
        parallel.map_seeds(lambda *args: args)(*arguments)


def test_what_is_no_list_of_devices_is_refused():
    one = jax.devices()[0]
    for devices in ("cpu", ["cpu:0"], one):
        with pytest.raises(TypeError, match="devices must be a list of devices"):
            parallel.lay_out(3, devices=devices)
    with pytest.raises(ValueError, match="and each once"):
        parallel.lay_out(3, devices=[one, one])
