"""Reports of `evaluate`: JSON figures, text, Markdown, HTML, JUnit."""
