"""Models of engines: what a prefill or a decode engine does with requests, memory and time."""
