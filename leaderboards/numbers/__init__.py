"""Every number of the boards, computed once from the table of runs."""
