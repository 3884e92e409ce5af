"""The parts that all simulations share: time, chance, and runs in several processes."""
