"""The command line: dispatch, overrides, help and completion."""
