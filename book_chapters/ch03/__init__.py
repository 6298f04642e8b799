"""Chapter 3. Neural networks: what a trained net computes."""
