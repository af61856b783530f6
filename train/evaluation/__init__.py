"""Evaluation: protocols, metrics, fusion of saved scores."""
