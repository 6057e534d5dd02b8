"""Engines: how a pipeline of stages runs (in process, over Ray Data)."""
