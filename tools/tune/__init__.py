"""What tools.tune consists of: the configs to choose from, a server that changes between them, the search."""
