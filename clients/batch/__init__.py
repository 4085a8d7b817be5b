"""Inference over a large data set: many requests at once, resumable, one output table."""
