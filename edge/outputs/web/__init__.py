"""A page that shows a run live, and what machines ask of it: /metrics and /healthz."""
