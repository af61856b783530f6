"""Clips, splits, and their frames and flow."""
