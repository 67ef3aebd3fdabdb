"""Replicas: work with a state of its own, whoever computes it.

A replica is virtual: it is numbered, and its documents, its state and what it does are its own
whatever the number of workers. What it answers is a function of its state, the weights and the
documents, so that any worker that is given these gives the same bits. ``state`` says what can be
known of a replica, ``work`` what it does. No sockets, no clock, no engine of its own.
"""
