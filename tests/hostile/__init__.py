"""Hostile requests, and what becomes of a server that gets them."""
