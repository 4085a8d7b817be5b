"""Which version of a model is served: candidates loaded beside it, what they must pass, promotion and rollback."""
