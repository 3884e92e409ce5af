"""A live view of any number of engines: `kvlease top`. It needs the packages textual, httpx and prometheus_client.

What is asked, and what it comes to:
    document        one moment of all engines, as JSON for scripts
    figures         an engine's figures, from its /metrics and its health
    counting        counters over time, through an engine's restarts
    watching        asks one engine again and again
    picture         one moment of all engines, as the view and the document show it

What is shown:
    headings        the columns of a table: what each shows, means and sorts by, and which fit
    engine_columns, lease_columns, session_columns
                    the columns of the three tables
    cells           figures as cells of a table
    sparks          figures over time as a line of blocks
    once            the tables as text, and the document
    app             the terminal's view
    summary         its first lines
    panel           one of its tables
    dialogs         its help, and all about one line
    facts           all about one line, as text
"""
