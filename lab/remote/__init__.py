"""Asking a running coordinator for its checkpoints."""
