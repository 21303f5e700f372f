"""The page of a run: what was tried, what was shipped and why, in one HTML file that needs nothing else.

page: render() · charts: the drawings · svg: matplotlib's drawings made fit for the page · tables: figures in words.
"""
