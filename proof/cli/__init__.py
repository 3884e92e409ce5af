"""The commands of `python -m proof`."""
