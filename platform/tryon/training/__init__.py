"""Training: recipes in pure PyTorch, the loop, and Ray Train around it."""
