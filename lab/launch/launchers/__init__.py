"""Where the workers of a run come from: one file for each engine, the interface, the registry."""
