"""Predictions: numbers to numbers, in numpy and scipy alone."""
