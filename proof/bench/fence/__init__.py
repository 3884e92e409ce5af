"""The fence's reads, over every path that this machine has."""
