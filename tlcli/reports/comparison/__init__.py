"""Reports of `compare`: text and HTML."""
