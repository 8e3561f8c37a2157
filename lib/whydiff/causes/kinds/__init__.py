"""Every cause whydiff can name, one file for each stage, in the order in which they are listed."""
