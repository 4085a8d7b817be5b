"""The front door: HAProxy before one or more tritonservers, with a configuration made from the repository."""
