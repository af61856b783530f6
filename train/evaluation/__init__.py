"""Protocols, metrics, fusion of saved scores."""
