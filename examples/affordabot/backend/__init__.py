"""affordabot: what a bill does to the cost of living."""
