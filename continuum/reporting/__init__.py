"""Answers from the records of finished and unfinished runs: tables, figures, pages.

Only reads; torch is not imported and the network is not used.
"""
