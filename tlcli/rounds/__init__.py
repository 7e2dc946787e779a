"""How a round comes about; `runs` keeps it on disk.

intake        images and classes of DATA, checked against what the run has learned
names         what the classes of earlier rounds are called by now
parent        the round that a command starts from
recall        what can be known of images that were learned before
moments_file  moments from elsewhere
backbone      the backbone that a run begins with
solution      a head that was solved, and its temperature
selection     the choice of `--head auto`
training      what the commands that train by gradients have in common
compensation  what becomes of the memory when the backbone has moved
result        what a command answers
publication   a round that is ready, committed
"""
