"""Is noise the same draw, at the start and in each step? Which seed, generator, order or layout gives the other one?"""
