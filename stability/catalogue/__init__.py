"""Activations, initializations, ensembles and datasets: one entry each."""
