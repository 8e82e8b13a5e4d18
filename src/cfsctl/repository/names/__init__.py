"""Names, links and refs, and the streams and images behind them."""
