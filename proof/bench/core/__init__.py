"""The hooks and the agent alone, one call at a time, beside vLLM's own."""
