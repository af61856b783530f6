"""Builds network inputs from frames and flow, for training and live video alike."""
