"""Reports of `evaluate`, drawn from the JSON object.

figures    what every one of them says, whatever its format
text       for the terminal
markdown   for a pull request or the summary of a pipeline
junit      for a CI server: a test case for every gate
page       one HTML file that opens offline
plots      its plots as SVG: accuracy round by round, and reliability
confusion  its confusion matrix
"""
