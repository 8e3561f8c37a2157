"""The atlas of defaults: what frameworks use when nothing is specified, read from `data/facts/*.json`."""
