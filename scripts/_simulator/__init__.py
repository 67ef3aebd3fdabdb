"""The simulator: coordinator and workers of production in one process, under a virtual clock."""
