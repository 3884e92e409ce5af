"""The bytes and messages of each lease and term."""
