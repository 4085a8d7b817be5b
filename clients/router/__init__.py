"""An HTTP router in front of Triton that tries a candidate model on a share of the traffic."""
