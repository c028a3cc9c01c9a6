"""How jobs are carried out: one after the other, or several at once."""
