"""Clients that know nothing of P and D, unchanged, through `kvlease router` in front of fake engines."""
