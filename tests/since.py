"""Settings that runs of older versions do not have."""

SINCE = ("chunk", "ema", "weights", "frozen", "layer_decay", "recompute", "compiled", "validate_every")
