"""How a model is made, checked and served; one verb a file, run as `python -m tools.<verb>`."""
