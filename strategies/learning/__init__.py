"""What learning parts strategies share: replay, selection, optimisation, evaluation, averaging."""
