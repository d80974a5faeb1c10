"""Published tables, reproduced: matrix files, running their commands, their pages."""
