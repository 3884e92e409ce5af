"""Tests of what the figures mean, and of how they are kept."""
