"""Looking into checkpoint files, comparing and converting them."""
