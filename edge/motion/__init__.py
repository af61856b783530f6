"""Optical flow: TV-L1 of fixed length, and the stacks of it that the temporal network reads."""
