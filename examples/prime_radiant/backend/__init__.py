"""prime_radiant: a chat about money, page by page."""
