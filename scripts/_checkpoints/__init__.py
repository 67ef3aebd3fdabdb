"""The subcommands of ``scripts/checkpoint.py``."""
