"""The requests to be played: made or recorded, at some rate, all of them or a sample."""
