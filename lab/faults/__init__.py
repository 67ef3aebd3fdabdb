"""Faults done to real processes: what is broken, how, and what became of the run."""
