"""A run on a terminal, whoever has started it: its workers and a small timeline."""
