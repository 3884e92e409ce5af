"""The dashboard, the rules and the files around them."""
