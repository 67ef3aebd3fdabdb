"""How results become updates: one file for each way, all behind the interface in ``base``.

``registry.load_strategy`` finds a strategy by its name or in a user's file; ``driver.RoundDriver``
holds its open rounds for whoever runs it; ``serial.run`` is the shortest one who does. Nothing here
knows workers by name, messages, sockets or clocks, and nothing here imports an engine.
"""
