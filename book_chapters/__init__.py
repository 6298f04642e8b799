"""Chapters 3 to 8 of "Deep Learning from Scratch" (Koki Saitoh) as pages that run; see ``python -m book_chapters``."""
