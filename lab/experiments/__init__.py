"""Experiments: questions about data-parallel training as files, run to a table and a report."""
