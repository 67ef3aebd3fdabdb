"""The live page: a process of its own that reads a run directory and shows it in a browser."""
