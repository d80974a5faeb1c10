"""What can be typed: the flags of the commands, and their help."""
