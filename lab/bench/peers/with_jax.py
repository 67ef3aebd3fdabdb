"""The GPT in JAX, compiled, on one core: reads a task as JSON, writes losses and seconds."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp


def rmsnorm(x: Any) -> Any:
    return x * (jnp.mean(x * x, -1, keepdims=True) + 1e-5) ** -0.5


def batch_loss(params: Any, tokens: Any, lengths: Any, config: Any) -> Any:
    """Sum over the documents of their mean losses; ``tokens`` (documents, positions + 1)."""
    _, _, n_layer, width, heads, _ = config
    count, size = tokens.shape[0], tokens.shape[1] - 1
    x = rmsnorm(params["wte"][tokens[:, :-1]] + params["wpe"][:size])
    mask = jnp.tril(jnp.ones((size, size), bool))
    for layer in range(n_layer):
        w = {
            name: params[f"layer{layer}.{name}"]
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2")
        }
        y = rmsnorm(x)
        q, k, v = (
            (y @ w[name].T).reshape(count, size, heads, width // heads).transpose(0, 2, 1, 3)
            for name in ("attn_wq", "attn_wk", "attn_wv")
        )
        scores = q @ k.swapaxes(-1, -2) * (width // heads) ** -0.5
        attended = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)) @ v
        x = x + attended.transpose(0, 2, 1, 3).reshape(count, size, width) @ w["attn_wo"].T
        x = x + jax.nn.relu(rmsnorm(x) @ w["mlp_fc1"].T) @ w["mlp_fc2"].T
    logp = jax.nn.log_softmax(x @ params["lm_head"].T)
    losses = -jnp.take_along_axis(logp, tokens[:, 1:, None], -1)[..., 0]
    inside = jnp.arange(size) < lengths[:, None]
    return jnp.sum(losses * inside / lengths[:, None])


def main() -> None:
    task = json.load(sys.stdin)
    jax.config.update("jax_enable_x64", task["precision"] == "float64")
    config = task["config"]
    flat, params, at = jnp.array(task["params"], task["precision"]), {}, 0
    for name, (rows, columns) in task["shapes"].items():
        params[name] = flat[at : at + rows * columns].reshape(rows, columns)
        at += rows * columns
    shape = tuple(
        config[name]
        for name in ("vocab_size", "block_size", "n_layer", "n_embd", "n_head", "block_size")
    )
    compiled = jax.jit(jax.value_and_grad(partial(batch_loss, config=shape)))
    answers = []
    for batch in task["batches"]:
        lengths = [min(config["block_size"], len(document) - 1) for document in batch]
        size = max(lengths)
        tokens = jnp.array([(document + [0] * size)[: size + 1] for document in batch])
        seconds = []
        for repeat in range(task["repeats"] + 3):
            begin = time.perf_counter()
            loss, _ = jax.block_until_ready(compiled(params, tokens, jnp.array(lengths)))
            if repeat >= 3:
                seconds.append(time.perf_counter() - begin)
        answers.append({"loss": float(loss) / len(batch), "seconds": seconds})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
