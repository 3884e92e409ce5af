"""Models of prefill and decode engines: their requests, memory and time."""
