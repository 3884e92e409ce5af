"""What an engine does for leases, in its scheduler and in its workers, with no word of any engine."""
