"""Signatures of versions: what they cover, made and verified with OpenSSF model-signing."""
