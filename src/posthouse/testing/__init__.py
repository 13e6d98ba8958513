"""A whole Posthouse for the tests of other programs."""
