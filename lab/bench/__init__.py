"""Measurements: the engine, a step's coordination, checkpoints, and peers."""
