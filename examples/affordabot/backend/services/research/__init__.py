"""What the web knows about a bill."""
