"""The part of an engine that serves leases, in its scheduler and in its workers, for any kind of engine."""
