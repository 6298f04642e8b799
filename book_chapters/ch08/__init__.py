"""Chapter 8: a deep net."""
