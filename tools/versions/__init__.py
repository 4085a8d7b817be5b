"""Which version is served: candidates beside it, what they have to stand, routers and callers to try them with."""
