"""The play of `kvlease demo`: four faults on real engines, first with stock vLLM, then with kvlease."""
