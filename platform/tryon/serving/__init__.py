"""Serving: the try-on graph on Ray Serve behind an HTTP API."""
