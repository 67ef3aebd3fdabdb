"""Data files of the package; ``README.md`` beside this file says where they come from."""
