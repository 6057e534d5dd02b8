"""Sources: where samples come from. One file each, the same shape; see `tryon.data.sources.base`."""
