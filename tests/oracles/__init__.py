"""Hand-derived NumPy references. Nothing here imports rljax or jax."""
