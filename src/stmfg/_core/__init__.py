"""What every room needs: checks of input, blocks of rows, files, colours, timing."""
