"""Recipes: fields, network, loss and logged images of one training. One file each."""
