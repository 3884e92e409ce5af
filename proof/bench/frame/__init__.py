"""The frame of all benchmarks: figures, pairs, documents, reports, and a process for each."""
