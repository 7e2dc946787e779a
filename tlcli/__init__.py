"""Train image classifiers by transfer learning and keep adding classes to them."""

__version__ = "0.1.0"
