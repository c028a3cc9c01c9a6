"""What a run is: its fields, their profiles, files of options and grids of runs."""
