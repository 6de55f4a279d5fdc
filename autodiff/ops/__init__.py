"""The op table: one file per chapter, each op declared once with its derivative.

Rules use operators and public ops; nothing here imports an array library.
"""
