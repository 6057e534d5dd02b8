"""Batch jobs that outlive every process: a store, a worker, webhooks, HTTP routes. Nothing here knows Ray."""
