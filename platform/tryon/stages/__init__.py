"""Stages: callables over a batch that state what they read and add. One file a stage."""
