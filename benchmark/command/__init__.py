"""What the command is made of: options, sessions, what is shown in the terminal."""
