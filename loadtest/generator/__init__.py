"""The sending half of a load test: one event loop per process, requests encoded beforehand, connections kept open."""
