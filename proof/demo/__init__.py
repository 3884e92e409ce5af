"""The play of the demo: six faults on real engines, first with stock vLLM, then with kvlease."""
