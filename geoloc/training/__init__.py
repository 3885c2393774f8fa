"""Training: pairs of views in, a model folder out; and other ways for a model to learn."""
