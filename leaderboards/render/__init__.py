"""What draws the numbers: markdown, figures, a page, tables, LaTeX, a terminal. Nothing is computed here."""
