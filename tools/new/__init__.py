"""A model of one's own: its network tried, described in config.pbtxt, exported, and called for the first time."""
