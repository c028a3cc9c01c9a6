"""What is measured: Avalanche plugin metrics that work under any strategy."""
