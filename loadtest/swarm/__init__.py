"""Locust's part: virtual users in a closed loop, Locust's web page and its workers, beside the server's counters."""
