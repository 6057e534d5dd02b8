"""Looking at data sets: what they hold, whether it agrees, how it looks, and how two of them differ."""
