"""One page about one dataset, `report.html`: what the data looks like, and how the run went.

The page is one file that runs no script and asks the network for nothing; its Content-Security-Policy
forbids both. It holds counts, sums, codes, currencies, cities, days and column names, never a person's data.
Charts are HTML that the style sheet draws: they fit every width and both colour schemes, and a screen
reader gets a title, a summary in words and a table of figures for each.
"""
