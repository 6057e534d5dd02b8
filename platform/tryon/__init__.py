"""Ray-native virtual try-on: photos to shards, shards to bundles, bundles to a service."""

__version__ = "0.1.0"
