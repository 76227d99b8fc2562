"""Encoders and multilayer perceptrons."""
