"""microGPT on scalar autograd: the library. No sockets, no processes, no wall clock."""
