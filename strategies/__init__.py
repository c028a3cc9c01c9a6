"""How one learns from a stream: strategies, replay, selection and pruning, as Avalanche parts.

Importing this package imports nothing heavy; names are resolved through :mod:`strategies.registry`.
"""
