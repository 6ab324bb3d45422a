"""A change shown to a share of units, step by step, with guardrails that take it back."""
