"""Load tests: a generator that sends on schedule, Locust users, the analysis of what came back, and reports."""
