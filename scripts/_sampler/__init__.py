"""The parts of ``scripts/sample.py``: options, printing, the interactive prompt."""
