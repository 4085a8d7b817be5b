"""Faults injected into a supervised service, and how long it takes until they are noticed and mended."""
