"""Photographs for training: where they come from and how they are fed to the network."""
