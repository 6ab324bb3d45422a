"""Analyses of bills by language models."""
