"""Questions a running Triton server, whoever made it, and answers in words with the figures behind them."""
