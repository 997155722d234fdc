"""A transformer on one prefix alone: no padding, no mask, nothing to be hidden."""

import numpy as np


def transformer(params, prompt, tokens, num_heads):
    """The outputs after the last token, by the rule of `rlhf.networks.Transformer`."""
    x = [params["prompts"][prompt], *(params["tokens"][y] for y in tokens)]
    x = np.array(x) + params["places"][: len(x)]
    for block in params["blocks"]:
        attended = np.zeros_like(x)
        kernel, bias = block["query_key_value"]
        query, key, value = np.split(_norm(x) @ kernel + bias, 3, axis=-1)
        size = x.shape[1] // num_heads
        for head in range(num_heads):
            own = slice(head * size, (head + 1) * size)
            for i in range(len(x)):
                scores = [query[i, own] @ key[j, own] for j in range(i + 1)]
                weights = np.exp(np.array(scores) / np.sqrt(size))
                weights /= weights.sum()
                for j in range(i + 1):
                    attended[i, own] += weights[j] * value[j, own]
        x = x + _affine(block["project"], attended)
        hidden = np.maximum(_affine(block["expand"], _norm(x)), 0)
        x = x + _affine(block["contract"], hidden)
    return _affine(params["output"], _norm(x))[-1]


def _affine(layer, x):
    return x @ layer[0] + layer[1]


def _norm(x):
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + 1e-6)
