"""The commands, one file each: Config in, Result out. Commands do not know each other."""
