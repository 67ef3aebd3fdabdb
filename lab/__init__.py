"""Everything that runs a cluster from outside. Nothing but scripts imports it."""
