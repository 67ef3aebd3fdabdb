"""Inventing documents on a command line: options, output, the interactive prompt."""
