"""Chapter 6: techniques of learning: optimizers, initial weights, batch normalisation, weight decay, dropout."""
