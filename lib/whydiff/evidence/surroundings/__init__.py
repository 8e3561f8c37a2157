"""What a side is made of besides its tensors: settings, defaults, versions, weights."""
