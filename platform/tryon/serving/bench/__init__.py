"""What the service costs and what it withstands, measured against the pipeline without it and against its peers."""
