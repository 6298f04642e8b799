"""Works with a contender for each library: one file per kind of work. `benchmarks/catalogue.py` lists them.

A contender imports its library when it is its turn, in a process of its own, so no library stands at the top here.
"""
