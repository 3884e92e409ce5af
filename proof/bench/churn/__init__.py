"""Leases that come and go: what each takes of processor time and memory."""
