"""The parts of `python -m editing.batch`.

planning.py says what is to be made of which photo, strengths.py reads a table of strengths.  work.py edits one
photo, from bytes to bytes.  crew.py has photos done in this process, or by a crew: workers.py (processes of this
machine) or cluster.py (Ray).  desk.py belongs to the process that was called, and it alone writes files.
"""
