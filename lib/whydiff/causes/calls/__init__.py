"""How often, at which steps and with which branches a network is evaluated, and what is used again instead."""
