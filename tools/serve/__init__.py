"""The embedded tritonserver: found in its wheel, put together, started, watched, measured, stopped."""
