"""The fault benchmark: known bugs planted into healthy pipelines, and how often the right cause is named."""
