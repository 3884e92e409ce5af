"""What a lease costs, beside what vLLM's own mechanism costs in the same run. `python -m proof bench --help`."""
