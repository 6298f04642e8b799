"""Two tutorials of the Julia library Flux and a story about it, their programs in the stateless form, corrected."""
