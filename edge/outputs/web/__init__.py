"""A live page of a run, with /metrics and /healthz for monitoring."""
