"""The embedded tritonserver: assembled from its wheel, started, watched and stopped."""
