"""data: what is in a folder or table, and what is to become of it.

divide          what is learned, and what is kept for tests
contact_sheet   of augmented images
"""
