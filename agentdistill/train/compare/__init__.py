"""Methods compared under one stated protocol.

    words ──> Comparison: arms × rates × seeds           words.py, protocol.py
       │
       ├─ tuning:    each arm, each rate, one seed of its own, on the tuning split ──> the arm's rate
       └─ reported:  each arm with its rate, seeds 0 … N−1, on the reported split
                │    every run is an ordinary training run in a process of its own      jobs.py, campaign.py
                v
    outcome of each run ──> results.json, tuning.jsonl, report.md, plot.svg              outcome.py, results.py, table.py, plot.py

Everything that is decided is on the disk, so a comparison that was stopped goes on, and one that is complete is only shown again.
"""
