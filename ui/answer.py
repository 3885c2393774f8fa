"""Moved: indexing/answer.py."""

from indexing.answer import Answer, Match, answer, open_gallery

__all__ = ["Answer", "Match", "answer", "open_gallery"]
