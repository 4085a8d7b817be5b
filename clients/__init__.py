"""Everything at request time: typed clients over Triton's HTTP and gRPC; numpy and tritonclient, never torch."""
