"""Pictures: the one a pipeline is given, and how what was decoded becomes the one that the user gets."""
