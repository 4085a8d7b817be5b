"""The sender: one event loop per process, requests encoded beforehand, connections kept open."""
