"""One function per command: a config in, a result out. Nothing here prints or exits."""
