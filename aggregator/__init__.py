"""The aggregator: a worker towards its parent, and a coordinator towards workers of its own."""
