"""What a run records, handed to programs that others look at runs with."""
