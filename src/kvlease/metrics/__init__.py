"""Every figure that an engine tells, and what it means. It needs neither an engine nor a client of Prometheus."""
