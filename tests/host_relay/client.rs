//! A TURN client of a few lines, made of our own codec.
