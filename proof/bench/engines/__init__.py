"""Real engines: under traffic, with short terms, and after a crash."""
