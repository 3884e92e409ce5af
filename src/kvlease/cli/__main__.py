"""`python -m kvlease.cli` is `kvlease`."""

import sys

from kvlease.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
