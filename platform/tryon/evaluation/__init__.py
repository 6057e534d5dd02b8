"""Evaluation: protocol, metrics over Ray Data, HTML report."""
