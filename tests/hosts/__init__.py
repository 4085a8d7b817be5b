"""Several hosts on one machine, made of Linux network namespaces: replicas, a door and callers, each at an address."""
