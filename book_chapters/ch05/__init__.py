"""Chapter 5. Backpropagation: gradients by going backwards through the graph."""
