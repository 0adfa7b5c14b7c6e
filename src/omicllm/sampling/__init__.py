"""Synthetic profiles: one sampler for each way to draw them."""
