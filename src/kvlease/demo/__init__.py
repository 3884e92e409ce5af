"""What `kvlease demo` plays: four faults on real engines, first with stock vLLM, then with kvlease."""
