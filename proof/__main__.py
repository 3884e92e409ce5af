"""`python -m proof`, from the checkout."""

import sys

from proof.cli.main import main

sys.exit(main())
