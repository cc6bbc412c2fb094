"""Text: what a sentence asks of a face, and faces that sentences describe."""
