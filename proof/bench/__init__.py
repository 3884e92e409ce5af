"""The cost of a lease, beside that of vLLM's own mechanism in the same run. See `python -m proof bench --help`."""
