"""Data: sources, the simulator, shards."""
