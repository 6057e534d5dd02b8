"""Networks: pure PyTorch that knows neither stages nor Ray. One file a network."""
