"""What this machine can do at most: arithmetic, random words, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import programs
import protocol

import rljax
from rljax import parallel

PRODUCTS, WORDS, COPIED = 20_000, 2**22, 2**24


def measure(scale: float, seed: int):
    """Products of a minibatch with a layer, random words, bytes read and written.

    `scale` makes all of it smaller; the best of 5 counts, as a limit should.
    """
    products, words, copied = (int(n * scale) for n in (PRODUCTS, WORDS, COPIED))
    rng = np.random.default_rng(seed)
    # Orthogonal, so that the values neither grow nor vanish however many products.
    layer = jnp.asarray(np.linalg.qr(rng.normal(size=(64, 64)))[0], jnp.float32)
    batch = jnp.ones((128, 64), jnp.float32)

    @jax.jit
    def multiply(x):
        return jax.lax.scan(lambda x, _: (x @ layer, None), x, length=products)[0]

    # A GPU rounds factors to 10 bits, which adds up over so many products.
    drift = 0.01 if jax.default_backend() == "cpu" else 0.9

    def draw(key):
        return jnp.mean(rljax.random.uniform(key, (words,)))

    def best(fn, arg):
        return min(programs.timed(fn, arg)[0] for _ in range(6))

    def run(number):
        key = programs.run_key(seed, number)
        norm = jnp.linalg.norm(multiply(batch)) / jnp.linalg.norm(batch)
        keys = jax.random.split(key, jax.device_count())
        draw_all = parallel.map_seeds(draw)
        array = jnp.zeros(copied, jnp.float32)
        check = {
            "gflops": 2e-9 * products * batch.size * 64 / best(multiply, batch),
            "words_per_second": words * len(keys) / best(draw_all, keys),
            "copy_gb_per_second": 8e-9 * copied / best(jax.jit(lambda x: x + 1), array),
            "norm_kept": abs(float(norm) - 1) < drift,
            "mean_word": float(draw_all(keys).mean()),
        }
        return 0.0, 1, check

    return run, programs.devices() | {"card": jax.devices()[0].device_kind}


if __name__ == "__main__":
    parallel.use_cpu_cores()
    protocol.serve({"limits": measure}, ["jax", "jaxlib", "optax", "chex"])
