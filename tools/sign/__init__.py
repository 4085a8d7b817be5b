"""Signatures of model versions, made and verified with OpenSSF model-signing."""
