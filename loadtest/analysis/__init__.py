"""What a run says: intervals, warm-up, the generator's audit, the server's counters, bounds, the search for a peak."""
