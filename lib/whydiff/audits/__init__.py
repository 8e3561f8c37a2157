"""One question for each notebook: an audit reads a study and answers in one of the contract's six words."""
