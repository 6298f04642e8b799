"""Speed and memory of defnpy, beside its peers: ``python -m benchmarks --help``."""
