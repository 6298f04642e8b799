"""Chapter 4. Learning: losses, numerical gradients, descent."""
