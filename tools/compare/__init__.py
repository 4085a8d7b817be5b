"""Compare a model with its variants: accuracy, size, memory, latency and throughput."""
