"""How a round comes about; `runs` keeps it on disk.

adoption       a classifier that exists, in the form of a run
intake         images and classes of DATA, checked against what the run has learned
names          what the classes of earlier rounds are called by now
parent         the round that a command starts from
recall         what can be known of images that were learned before
given_moments  what files of `tlcli moments` add to a run
backbone       the backbone that a run begins with
descriptors    what the descriptors of a round's images can be made of
layers         the choice of `--layers auto`
solution       a head that was solved, and its temperature
selection      the choice of `--head auto`
novelty        the limit that tells new images from those of known classes
training       what the commands that train by gradients have in common
compensation   what becomes of the memory when the backbone has moved
usual_images   what images of the usual kind look like, for a head whose images are gone
indexed        what the index holds of classes that a round forgets or renames
result         what a command answers
publication    a round that is ready, committed
"""
