"""The book's pages beside float32 NumPy and JAX, on one core and on two: a step, and whole scripts."""
