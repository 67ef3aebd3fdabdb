"""Optimizers, the learning rate, and the one order in which gradients are summed."""
