"""What becomes of latents: what the loop starts from, their order, what is put beside them, and what the decoder receives."""
