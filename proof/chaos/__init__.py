"""The chaos: faults drawn from a seed, on real engines under constant traffic; every answer is checked."""
