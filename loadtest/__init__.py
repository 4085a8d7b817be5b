"""Everything about measuring: Locust users, the server's own statistics, and reports that show both."""
