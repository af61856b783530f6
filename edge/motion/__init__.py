"""Optical flow (TV-L1 with a fixed amount of work) and stacks of it."""
