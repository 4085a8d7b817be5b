"""What comparisons and benchmarks share: copies to measure, perf_analyzer, statistics, tables and pages."""
