"""How gradients shrink on the wire: one file for each way, all behind the interface in ``base``.

``registry.load_compressor`` finds a compressor by its name or in a user's file;
``feedback.compress`` uses one with or without error feedback. Everything here is pure: bytes and
numbers depend on the arguments alone, and their bits are the same on every machine.
"""
