"""The play of the demo: four faults on real engines, first with stock vLLM, then with kvlease."""
