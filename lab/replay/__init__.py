"""Recorded runs, computed anew from what they have recorded."""
