"""A live page of a run, with /metrics, /healthz and /readyz for monitoring."""
