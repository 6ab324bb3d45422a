"""What the routes use."""
