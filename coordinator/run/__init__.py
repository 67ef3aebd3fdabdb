"""A run as people see it: settings, run directory, console."""
