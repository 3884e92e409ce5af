"""What every command line of kvlease shares: its arguments, how it ends, and how it shows and keeps what it found."""
