"""A router in front of Triton, for HTTP and gRPC, that tries a candidate model on a share of the traffic."""
