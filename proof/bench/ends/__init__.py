"""Leases that are over, on real engines beside stock: memory that is back at once, and reads that are right all the
same."""
