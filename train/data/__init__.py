"""Data sets: clips, splits, and the cache of their frames and flow."""
