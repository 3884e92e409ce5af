"""What simulations share, whatever they simulate: time, chance, and many runs in several processes."""
