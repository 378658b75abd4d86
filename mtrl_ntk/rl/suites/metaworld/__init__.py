"""Meta-World V3, the suite of the MT10, MT25 and MT50 benchmarks."""
