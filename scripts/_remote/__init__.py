"""Checkpoints of a run that trains somewhere: asked for at the address of its coordinator."""
