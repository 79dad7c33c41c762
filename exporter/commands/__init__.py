"""The commands, one file each: `main(args, console)` answers and returns the exit code (exporter/cli.py says which)."""
