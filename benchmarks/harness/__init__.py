"""How works are measured: one process per contender, rounds in turns, medians. Knows no work and no library."""
