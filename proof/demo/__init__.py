"""What `python -m proof demo` plays: four faults on real engines, first with stock vLLM, then with kvlease."""
