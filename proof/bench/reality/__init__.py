"""One crash, on real engines and in the fleet's simulation."""
