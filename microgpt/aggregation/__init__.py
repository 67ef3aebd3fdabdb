"""How one vector is made of the replicas' vectors, some of which may mean harm: one file each.

``registry.load_aggregation`` finds a rule by its name or in a user's file. Everything here is pure,
and all promise ``exact``: the bits depend on the vectors and their order alone, and are the same on
every machine.
"""
