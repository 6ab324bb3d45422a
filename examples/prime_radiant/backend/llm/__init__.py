"""The old client for language models."""
