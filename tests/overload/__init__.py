"""More load than the service behind the front door can serve."""
