"""Tangent kernels of a run: kept, drawn, reported."""
