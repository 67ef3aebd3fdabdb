"""The coordinator's socket, its keys, and the limits that peers are held to."""
