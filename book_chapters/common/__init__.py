"""Parts that several chapters share, all of them pure functions."""
