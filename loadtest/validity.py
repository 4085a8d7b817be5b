"""When a run says nothing of the server because the generator was the bottleneck: limits, and how a command says so."""

# The exit code of a command whose run is not valid.
INVALID = 3
FULL_CPU = 0.9  # of one core: an event loop that is busy for longer reads its answers late
OWN_SHARE = 0.1  # of a percentile that may be the generator's own lag
OWN_FLOOR_S = 0.001  # and what is never held against it
