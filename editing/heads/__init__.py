"""Translation heads on the latents: small networks that move the code of an inverted face, decoded by the generator."""
