"""Runs beside each other: a list, a comparison, and a page to keep."""
