"""Checkpoint files: their container, their format, and what they can be exported to."""
