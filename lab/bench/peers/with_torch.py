"""The GPT in PyTorch, eager, one thread: reads a task as JSON, writes losses and seconds."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812


def rmsnorm(x: Any) -> Any:
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()


def batch_loss(params: Any, config: Any, tokens: Any, lengths: Any) -> Any:
    """Sum over the documents of their mean losses; ``tokens`` (documents, positions + 1)."""
    count, size = tokens.shape[0], tokens.shape[1] - 1
    width, heads = config["n_embd"], config["n_head"]
    x = rmsnorm(params["wte"][tokens[:, :-1]] + params["wpe"][:size])
    mask = torch.ones(size, size, dtype=torch.bool).tril()
    for layer in range(config["n_layer"]):
        w = {
            name: params[f"layer{layer}.{name}"]
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2")
        }
        y = rmsnorm(x)
        q, k, v = (
            (y @ w[name].T).view(count, size, heads, width // heads).transpose(1, 2)
            for name in ("attn_wq", "attn_wk", "attn_wv")
        )
        scores = q @ k.transpose(-1, -2) * (width // heads) ** -0.5
        attended = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v
        x = x + attended.transpose(1, 2).reshape(count, size, width) @ w["attn_wo"].T
        x = x + F.relu(rmsnorm(x) @ w["mlp_fc1"].T) @ w["mlp_fc2"].T
    logits = (x @ params["lm_head"].T).reshape(count * size, -1)
    losses = F.cross_entropy(logits, tokens[:, 1:].reshape(-1), reduction="none")
    inside = torch.arange(size) < lengths[:, None]
    return (losses.view(count, size) * inside / lengths[:, None]).sum()


def main() -> None:
    torch.set_num_threads(1)
    task = json.load(sys.stdin)
    config, dtype = task["config"], getattr(torch, task["precision"])
    flat = torch.tensor(task["params"], dtype=torch.float64).to(dtype)
    params, at = {}, 0
    for name, (rows, columns) in task["shapes"].items():
        part = flat[at : at + rows * columns].view(rows, columns)
        params[name] = part.clone().requires_grad_()
        at += rows * columns
    answers = []
    for batch in task["batches"]:
        lengths = torch.tensor([min(config["block_size"], len(d) - 1) for d in batch])
        size = int(lengths.max())
        tokens = torch.tensor([(d + [0] * size)[: size + 1] for d in batch])
        seconds = []
        for repeat in range(task["repeats"] + 3):
            begin = time.perf_counter()
            loss = batch_loss(params, config, tokens, lengths)
            gradients = torch.autograd.grad(loss, list(params.values()))
            if repeat >= 3 and len(gradients) == len(params):
                seconds.append(time.perf_counter() - begin)
        answers.append({"loss": float(loss) / len(batch), "seconds": seconds})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
