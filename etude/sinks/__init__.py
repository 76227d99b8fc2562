"""What a run has stored and measured, in the formats of other people's tools: `etude runs export`.

One module per sink, each importing its optional package at the top; nothing else of the project imports them. A sink reads the
run's folder and changes nothing in it.
"""
