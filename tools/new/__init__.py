"""Models that were made elsewhere: where they come from, tried, converted, described, called for the first time."""
