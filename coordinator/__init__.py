"""The coordinator: owns the documents, the weights and Adam, and hands out the work."""
