"""Adders, compressors and memories: the one seam through which an engine meets a technology."""
