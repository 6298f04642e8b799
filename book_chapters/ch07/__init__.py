"""Chapter 7: convolutional nets."""
