"""Others that train the same model, to measure against."""
