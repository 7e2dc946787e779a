"""Reports of `compare`, drawn from the JSON object.

text  the table for the terminal, and which method to take
page  one HTML file that opens offline, with its plots inside
"""
