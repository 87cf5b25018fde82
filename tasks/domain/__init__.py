"""Nouns: partitions and time, pipeline specs, revisions and cuts, decisions, results. No input or output."""
