"""What gan evaluate measures, a module for each kind of network; each gives figures and the protocol behind them."""
