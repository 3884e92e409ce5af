"""The dashboard and the alerts of `monitoring/`: made, checked, run in a real Prometheus, and drawn.

panels     what a dashboard consists of             rows        kvlease's rows, a question of an operator each
grafana    the rows as Grafana's JSON               rules       the rules of Prometheus, and their manifest
promql     what a query asks for                    known       every series that there is to ask for
programs   Prometheus and promtool on this machine  prometheus  a Prometheus that runs
pages      canned pages for it to scrape            screen      the dashboard's queries, answered
draw       pictures of the answers
"""
