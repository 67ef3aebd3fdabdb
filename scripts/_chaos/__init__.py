"""Real faults for real processes: what ``scripts/chaos.py`` and the tests inflict on a run."""
