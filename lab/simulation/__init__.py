"""Whole runs under a virtual clock: network, disk, processes, and what must hold."""
