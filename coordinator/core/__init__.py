"""All decisions of the coordinator: pure, events and the time in, actions out."""
