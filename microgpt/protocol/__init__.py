"""What coordinator, workers and askers share: messages, their schema, keys."""
