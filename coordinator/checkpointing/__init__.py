"""Checkpoints while training goes on: written, kept by rules, listed and served."""
