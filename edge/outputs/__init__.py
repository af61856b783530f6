"""Outputs: everything that receives the labels and events of a run."""
