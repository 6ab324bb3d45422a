"""Enrichment of tables: keys go in, values with evidence come out, within a budget."""
