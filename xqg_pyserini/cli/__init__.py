"""The command line: `main` and, for each command, a file with its flags and its body."""
