"""A project's home folder: each owner's part of it is mirrored, for code that has its files at a fixed path."""
