"""What a model hub shows: ``config.json`` and the model card."""

from __future__ import annotations

import json

from microgpt.checkpoint.format import Checkpoint

CARD = """---
library_name: microgpt
pipeline_tag: text-generation
tags:
- microgpt
- character-level
---

# microGPT after {step:,} steps

A character-level GPT with {num_params:,} weights that invents documents like those of
{data}.
It was trained with a data-parallel trainer for Andrej Karpathy's microGPT.

| | |
|-|-|
| layers, heads, width, context | {n_layer}, {n_head}, {n_embd}, {block_size} |
| alphabet | {alphabet} characters and BOS, which begins and ends every document |
| last training loss | {loss} nats per token |
{validation}| SHA-256 of the weights (float64, little-endian, in canonical order) | `{digest}` |

## Files

- `model.safetensors`: the weights in float64. Matrix `w` (rows, columns) maps `x` to `w @ x`.
- `config.json`: the shape of the network; character `i` of its alphabet is token `i`, BOS the last.
- `training_state.safetensors`: Adam's means, to go on training with the same bits.

Settings, random generator and recent losses are JSON in the metadata of `model.safetensors`.
`python scripts/checkpoint.py import FOLDER -o checkpoint.msgpack` gives back the checkpoint.

## The network

Token and position embeddings (`wte`, `wpe`) are added and normalised; then in every layer
`x = x + attn_wo @ attention(norm(x))` and `x = x + mlp_fc2 @ relu(mlp_fc1 @ norm(x))`; the logits
are `lm_head @ x`. `norm` divides by `sqrt(mean(x * x) + 1e-5)`; there are no biases and no gains.
Attention is causal, with logits divided by the square root of the head's width.
"""


def config_json(checkpoint: Checkpoint) -> str:
    """The shape of the network as hubs and other programs look for it."""
    model = checkpoint.training.model
    config = {
        "model_type": "microgpt",
        "architectures": ["MicroGPT"],
        **model.to_dict(),
        "torch_dtype": "float64",
        "hidden_act": "relu",
        "intermediate_size": 4 * model.n_embd,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": checkpoint.tokenizer.bos,
        "eos_token_id": checkpoint.tokenizer.bos,
        "alphabet": checkpoint.tokenizer.chars,
    }
    return json.dumps(config, indent=2) + "\n"


def model_card(checkpoint: Checkpoint) -> str:
    """A README with the head that hubs read."""
    name = checkpoint.data.get("name")
    documents = checkpoint.data.get("documents")
    size = f"{documents:,} documents" if isinstance(documents, int) else "documents"
    known = {"names": "names.txt of makemore", "embedded": "first names of the 1990 US census"}
    held_out = checkpoint.validation
    return CARD.format(
        step=checkpoint.step,
        num_params=checkpoint.num_params,
        data=f"a data set of {size}{f' ({known[name]})' if name in known else ''}",
        alphabet=len(checkpoint.tokenizer.chars),
        loss=f"{checkpoint.losses[-1]:.4f}" if checkpoint.losses else "unknown:",
        validation=f"| validation loss | {held_out.loss:.4f} nats per token |\n"
        if held_out
        else "",
        digest=checkpoint.params_sha256,
        **checkpoint.training.model.to_dict(),
    )
