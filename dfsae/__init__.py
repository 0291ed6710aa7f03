"""Decoder-free sparse autoencoders: the code of the executable book."""
