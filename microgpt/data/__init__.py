"""Documents to train on: embedded, downloaded, or the user's own files."""
