"""Starting coordinators and workers: on this machine, in containers."""
