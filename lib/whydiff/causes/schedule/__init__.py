"""Noise levels and the updates between them: which formula, which configuration, which defect makes one side's of the other's?"""
